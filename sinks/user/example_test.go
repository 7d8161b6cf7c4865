package user_test

import (
	"context"
	"fmt"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/user"
)

// A check tells what would change, and changes nothing.
func Example() {
	cfg := &user.Config{Groups: []string{"audio", "video"}, Homedir: "/srv/player", Shell: "/bin/false"}
	r, err := cfg.Build("no-such-user", sinks.Options{})
	if err != nil {
		panic(err)
	}
	out, err := r.CheckApply(context.Background(), false)
	fmt.Println(out.Changed, err)
	for _, c := range out.Changes {
		fmt.Println(c)
	}
	// Output:
	// true <nil>
	// state: absent -> exists
	// groups: "" -> audio,video
	// homedir: "" -> /srv/player
	// shell: "" -> /bin/false
}
