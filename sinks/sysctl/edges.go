package sysctl

import (
	"strings"

	"github.com/mgmtproject/mgmt/sinks"
)

var (
	_ sinks.Provider = (*sysctl)(nil)
	_ sinks.Needer   = (*sysctl)(nil)
)

// Provides implements sinks.Provider. It does not claim to make the file, in which others
// may set other parameters.
func (r *sysctl) Provides() []sinks.Fact {
	if r.file == "" {
		return nil
	}
	return []sinks.Fact{{Space: sinks.SpaceEdits, Name: r.file}}
}

// Needs implements sinks.Needer. What is absent needs no directory.
func (r *sysctl) Needs() []sinks.Need {
	var needs []sinks.Need
	if link := r.link(); link != "" && r.live {
		needs = append(needs, sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceLink, Name: link}, Why: "whose parameter it is"})
	}
	if r.file == "" {
		return needs
	}
	needs = append(needs,
		sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceFile, Name: r.file}, Why: "its file"},
		sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceOwned, Name: r.file}, Why: "which brings its file"},
	)
	if r.absent {
		return append(needs, sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceMount, Name: r.file}, Above: true, Why: "on which it is"})
	}
	return sinks.AddHolders(needs, r.file)
}

// link is the network interface that the parameter belongs to, as eth0 in
// net/ipv4/conf/eth0/forwarding, "" if it belongs to none.
func (r *sysctl) link() string {
	parts := strings.Split(r.key, "/")
	if len(parts) < 5 || parts[0] != "net" || parts[2] != "conf" && parts[2] != "neigh" || parts[3] == "all" || parts[3] == "default" {
		return ""
	}
	return parts[3]
}
