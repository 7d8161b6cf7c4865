// Package all makes one instance of every source in this repository.
package all

import (
	"log/slog"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/command"
	"github.com/mgmtproject/mgmt/sources/inotify"
	"github.com/mgmtproject/mgmt/sources/mounts"
	"github.com/mgmtproject/mgmt/sources/netlink"
	"github.com/mgmtproject/mgmt/sources/packages"
	"github.com/mgmtproject/mgmt/sources/systemd"
	"github.com/mgmtproject/mgmt/sources/timer"
	"github.com/mgmtproject/mgmt/sources/utsname"
)

// New returns new sources, for one run. They log what a user should know, such as a
// fallback to polling, to log; nil discards.
func New(log *slog.Logger) []sources.Source {
	return []sources.Source{
		command.New(),
		inotify.New(inotify.Options{Log: log}),
		mounts.New(),
		netlink.New(),
		packages.New(packages.Options{Log: log}),
		systemd.New(),
		timer.New(),
		utsname.New(),
	}
}
