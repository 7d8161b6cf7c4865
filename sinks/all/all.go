// Package all lists every kind of resource in this repository.
package all

import (
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/cron"
	"github.com/mgmtproject/mgmt/sinks/exec"
	"github.com/mgmtproject/mgmt/sinks/file"
	"github.com/mgmtproject/mgmt/sinks/group"
	"github.com/mgmtproject/mgmt/sinks/gzip"
	"github.com/mgmtproject/mgmt/sinks/hostname"
	httpclient "github.com/mgmtproject/mgmt/sinks/http_client"
	httpserver "github.com/mgmtproject/mgmt/sinks/http_server"
	httpserverfile "github.com/mgmtproject/mgmt/sinks/http_server_file"
	"github.com/mgmtproject/mgmt/sinks/kv"
	"github.com/mgmtproject/mgmt/sinks/line"
	"github.com/mgmtproject/mgmt/sinks/mount"
	"github.com/mgmtproject/mgmt/sinks/msg"
	"github.com/mgmtproject/mgmt/sinks/net"
	"github.com/mgmtproject/mgmt/sinks/noop"
	"github.com/mgmtproject/mgmt/sinks/nspawn"
	"github.com/mgmtproject/mgmt/sinks/password"
	"github.com/mgmtproject/mgmt/sinks/pkg"
	"github.com/mgmtproject/mgmt/sinks/print"
	"github.com/mgmtproject/mgmt/sinks/schedule"
	sshauthorizedkey "github.com/mgmtproject/mgmt/sinks/ssh_authorized_key"
	"github.com/mgmtproject/mgmt/sinks/svc"
	"github.com/mgmtproject/mgmt/sinks/sysctl"
	"github.com/mgmtproject/mgmt/sinks/tar"
	"github.com/mgmtproject/mgmt/sinks/timer"
	"github.com/mgmtproject/mgmt/sinks/user"
	"github.com/mgmtproject/mgmt/sinks/value"
)

// Specs lists the kinds in alphabetical order. It is read and never changed.
var Specs = []sinks.Spec{
	cron.Spec,
	exec.Spec,
	file.Spec,
	group.Spec,
	gzip.Spec,
	hostname.Spec,
	httpclient.Spec,
	httpserver.Spec,
	httpserverfile.Spec,
	kv.Spec,
	line.Spec,
	mount.Spec,
	msg.Spec,
	net.Spec,
	noop.Spec,
	nspawn.Spec,
	password.Spec,
	pkg.Spec,
	print.Spec,
	schedule.Spec,
	sshauthorizedkey.Spec,
	svc.Spec,
	sysctl.Spec,
	tar.Spec,
	timer.Spec,
	user.Spec,
	value.Spec,
}
