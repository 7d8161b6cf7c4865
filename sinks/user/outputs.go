package user

import (
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/accounts/local"
)

const (
	uidOutput     = "uid"
	gidOutput     = "gid"
	homedirOutput = "homedir"
)

var _ sinks.Sender = (*Config)(nil)

// Outputs implements sinks.Sender.
func (c *Config) Outputs() []sinks.Output {
	return []sinks.Output{
		{Name: uidOutput, Type: sinks.TypeInt, Doc: "The number of the user."},
		{Name: gidOutput, Type: sinks.TypeInt, Doc: "The number of the primary group."},
		{Name: homedirOutput, Type: sinks.TypeString, Doc: "The path of the home directory, whether it is there or not."},
	}
}

// values are what others receive of the user.
func (u *user) values(f local.User) map[string]any {
	if len(u.opts.Sends) == 0 {
		return nil
	}
	return map[string]any{uidOutput: f.UID, gidOutput: f.GID, homedirOutput: f.Home}
}
