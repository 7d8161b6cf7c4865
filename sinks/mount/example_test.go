package mount_test

import (
	"fmt"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/mount"
)

func Example() {
	r, err := (&mount.Config{Device: "UUID=2f0c-11aa", Type: "vfat", Options: map[string]string{"ro": "", "umask": "077"}}).Build("/boot/efi", sinks.Options{})
	if err != nil {
		panic(err)
	}
	for _, w := range r.Watches() {
		fmt.Println(w.Source(), w)
	}
	// Output:
	// mounts /boot/efi
	// inotify /etc/fstab
	// inotify /dev/disk/by-uuid/2f0c-11aa
}
