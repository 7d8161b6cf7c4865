package sshauthorizedkey

import (
	"os/user"
	"testing"
)

// SetUser has the user u of this test exist, and no other.
func SetUser(t *testing.T, u user.User) {
	before := byName
	t.Cleanup(func() { byName = before })
	byName = func(name string) (*user.User, error) {
		if name != u.Username {
			return nil, user.UnknownUserError(name)
		}
		return &u, nil
	}
}
