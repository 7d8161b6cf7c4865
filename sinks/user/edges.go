package user

import (
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/accounts/local"
)

var (
	_ sinks.Provider = (*user)(nil)
	_ sinks.Needer   = (*user)(nil)
)

// Provides implements sinks.Provider. With a user whose primary group is not given comes
// the group of its name. One that is absent no longer stands in the way of the removal of
// its groups.
func (u *user) Provides() []sinks.Fact {
	if u.absent {
		facts := []sinks.Fact{{Space: sinks.SpaceFreed, Name: u.name}}
		if u.want.Group != "" && u.want.Group != u.name {
			facts = append(facts, sinks.Fact{Space: sinks.SpaceFreed, Name: u.want.Group})
		}
		return facts
	}
	facts := []sinks.Fact{{Space: sinks.SpaceUser, Name: u.name}}
	if u.want.GID == nil && u.want.Group == "" {
		facts = append(facts, sinks.Fact{Space: sinks.SpaceGroup, Name: u.name})
	}
	return facts
}

// Needs implements sinks.Needer. A home directory is not needed: it comes afterwards, since
// it belongs to the user.
func (u *user) Needs() []sinks.Need {
	needs := []sinks.Need{{Fact: sinks.Fact{Space: sinks.SpaceOwned, Name: local.Useradd}, Why: "which brings the tool for it"}}
	if u.absent {
		return needs
	}
	group := u.want.Group
	switch {
	case u.want.GID != nil:
		group = number(*u.want.GID) // which a group provides whose gid is given
	case group == "":
		group = u.name
	}
	needs = append(needs, sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceGroup, Name: group}, Why: "its group"})
	for _, name := range u.want.Groups {
		needs = sinks.AddAccount(needs, sinks.SpaceGroup, name, "one of its groups")
	}
	if u.want.Shell != "" {
		needs = sinks.AddInput(needs, u.want.Shell, "its shell")
	}
	if u.want.Homedir != "" { // the files in it follow the uid
		needs = append(needs, sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceMount, Name: u.want.Homedir}, Above: true, Why: "on which its home directory is"})
	}
	return needs
}
