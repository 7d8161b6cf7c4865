// Package exec runs commands: always, or only when other commands or files say that
// they are needed.
package exec

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/command"
	"github.com/mgmtproject/mgmt/sources/command/process"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

// Spec is the exec resource.
var Spec = sinks.Spec{
	Kind: "exec",
	New:  func() sinks.Config { return &Config{} },
}

// Config is a command and when to run it. Without ifcmd, nifcmd, creates and mtimes it
// runs whenever the resource is looked at: at the start, after each event of a watch, and
// after a change of what it depends on. With some of them, it runs when all agree.
//
// A command runs in a process group of its own with an empty standard input, and the
// whole group is ended (SIGTERM, and SIGKILL two seconds later) on a timeout, or when
// the run is stopped. What a command leaves in the background when it ends by itself
// lives on; it must have its output redirected, since nobody reads that any more.
//
// It sends what the command has printed, each up to its first and last 32 KiB, and its
// exit status. A command that has not run yet, since it was not needed, sends nothing.
type Config struct {
	// Cmd is the command; the default is the name of the resource. Without a shell and
	// args it is split into words at blanks, with quotes and backslashes as in a shell, and
	// without any other expansion. A program without a slash is looked for in PATH, that
	// of env if it is there.
	Cmd string `param:"cmd" shown:"true"`

	// Args are the arguments. With them, cmd is not split: it is the program alone, or
	// with a shell a script whose $1 is the first of them.
	Args []string `param:"args" shown:"true"`

	// Cwd is the directory in which cmd runs; empty is that of mgmt.
	Cwd string `param:"cwd"`

	// Shell runs cmd as a script: shell -c cmd. Empty is no shell.
	Shell string `param:"shell"`

	// Timeout is the longest that cmd, and each of ifcmd, nifcmd and donecmd, may run; 0 is
	// no limit. A command that is ended by it has failed.
	Timeout time.Duration `param:"timeout" unit:"s"`

	// Env holds environment variables for cmd and the other commands, beyond those of
	// mgmt or in place of them.
	Env map[string]string `param:"env"`

	// User is who runs cmd and the other commands, a name or a number; empty is the user
	// of mgmt. It sets HOME, USER and LOGNAME too. Only root can run commands as others.
	User string `param:"user"`

	// Group is the group, a name or a number; empty is that of the user.
	Group string `param:"group"`

	// WatchCmd is a command that keeps running, and of which each line of output is an
	// event: the resource is looked at again. The watch is over when it ends with status
	// 0, and otherwise has failed.
	WatchCmd string `param:"watchcmd" shown:"true"`

	// WatchCwd is the directory in which watchcmd runs; empty is that of mgmt.
	WatchCwd string `param:"watchcwd"`

	// WatchShell runs watchcmd as a script; empty is no shell.
	WatchShell string `param:"watchshell"`

	// WatchFiles are absolute paths of files and directories; a change of one is an event.
	WatchFiles []string `param:"watchfiles"`

	// IfCmd is a command that only looks: cmd runs if it ends with status 0, and not if it
	// ends with another. It runs under noop too, so it must not change anything.
	IfCmd string `param:"ifcmd" shown:"true"`

	// IfCwd is the directory in which ifcmd runs; empty is that of mgmt.
	IfCwd string `param:"ifcwd"`

	// IfShell runs ifcmd as a script; empty is no shell.
	IfShell string `param:"ifshell"`

	// IfEquals is what ifcmd must also print on its standard output for cmd to run.
	// Newlines at the end of both don't count.
	IfEquals *string `param:"ifequals"`

	// NifCmd is a command that only looks: cmd does not run if it ends with status 0, and
	// runs if it ends with another. It runs under noop too, so it must not change anything.
	NifCmd string `param:"nifcmd" shown:"true"`

	// NifCwd is the directory in which nifcmd runs; empty is that of mgmt.
	NifCwd string `param:"nifcwd"`

	// NifShell runs nifcmd as a script; empty is no shell.
	NifShell string `param:"nifshell"`

	// Creates is the absolute path of what cmd makes: cmd does not run while it exists,
	// unless a file of mtimes has been modified. It is watched.
	Creates string `param:"creates"`

	// Mtimes are absolute paths of files that cmd reads: cmd runs if one of them has been
	// modified since the last run. That is so if the file's modification time is later
	// than that of what creates names, if creates is given, and later than it was when
	// cmd last began a run that succeeded, if this run of mgmt has seen one. A file that
	// does not exist is not modified. The files are watched; cmd should leave them alone.
	Mtimes []string `param:"mtimes"`

	// DoneCmd is a command that runs after cmd has succeeded, to note that for example.
	// The resource has failed if donecmd does. To have a command say beforehand that there
	// is nothing to do, use nifcmd.
	DoneCmd string `param:"donecmd" shown:"true"`

	// DoneCwd is the directory in which donecmd runs; empty is that of mgmt.
	DoneCwd string `param:"donecwd"`

	// DoneShell runs donecmd as a script; empty is no shell.
	DoneShell string `param:"doneshell"`

	// State stands in old files, with the one value that it can have.
	State string `param:"state" oneof:"present" legacy:"true"`

	// PollInt is how often the resource is looked at in old files, beside its watches; 0 is
	// never. It is meta.poll today.
	PollInt time.Duration `param:"pollint" unit:"s" legacy:"true"`
}

// Build implements sinks.Config.
func (c *Config) Build(name string, opts sinks.Options) (sinks.Resource, error) {
	e := &execution{Config: *c, opts: opts}
	if e.Cmd == "" {
		e.Cmd = name
	}
	switch {
	case c.Timeout < 0:
		return nil, &sinks.ParamError{Param: "timeout", Err: fmt.Errorf("%v is negative", c.Timeout)}
	case c.PollInt < 0:
		return nil, &sinks.ParamError{Param: "pollint", Err: fmt.Errorf("%v is negative", c.PollInt)}
	case c.IfCmd == "" && c.IfEquals != nil && *c.IfEquals != "":
		return nil, &sinks.ParamError{Param: "ifequals", Err: errors.New("there is no ifcmd, whose output it could equal")}
	}
	for _, p := range []struct {
		name  string
		paths []string
	}{{"watchfiles", c.WatchFiles}, {"mtimes", c.Mtimes}, {"creates", single(c.Creates)}} {
		for _, path := range p.paths {
			if !filepath.IsAbs(path) {
				return nil, &sinks.ParamError{Param: p.name, Err: fmt.Errorf("path %q is not absolute", path)}
			}
		}
	}
	for _, r := range e.roles() {
		if err := r.command.Validate(); err != nil {
			return nil, &sinks.ParamError{Param: r.name, Err: err}
		}
	}
	return e, nil
}

func single(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// execution is an exec resource. (A command is what it runs.)
type execution struct {
	Config
	opts sinks.Options
	seen map[string]time.Time // modification times when cmd last began to run with success
	sent map[string]any       // what it has sent then
}

var (
	_ sinks.Refresher = (*execution)(nil)
	_ sinks.Waiter    = (*execution)(nil)
	_ sinks.Actor     = (*execution)(nil)
	_ sinks.Announcer = (*execution)(nil)
)

// role is a command and the parameter that gives it.
type role struct {
	name    string
	command process.Command
}

func (e *execution) cmd() role {
	r := e.role("cmd", e.Cmd, e.Cwd, e.Shell)
	r.command.Args = e.Args
	return r
}
func (e *execution) watchcmd() role {
	return e.role("watchcmd", e.WatchCmd, e.WatchCwd, e.WatchShell)
}
func (e *execution) ifcmd() role   { return e.role("ifcmd", e.IfCmd, e.IfCwd, e.IfShell) }
func (e *execution) nifcmd() role  { return e.role("nifcmd", e.NifCmd, e.NifCwd, e.NifShell) }
func (e *execution) donecmd() role { return e.role("donecmd", e.DoneCmd, e.DoneCwd, e.DoneShell) }

func (e *execution) role(name, cmd, cwd, shell string) role {
	return role{name, process.Command{Cmd: cmd, Dir: cwd, Shell: shell, Env: e.Env, User: e.User, Group: e.Group}}
}

// given says whether there is such a command.
func (r role) given() bool { return r.command.Cmd != "" }

// roles are the commands that are given. Cmd always is, if only by the name.
func (e *execution) roles() []role {
	roles := []role{e.cmd()}
	for _, r := range []role{e.watchcmd(), e.ifcmd(), e.nifcmd(), e.donecmd()} {
		if r.given() {
			roles = append(roles, r)
		}
	}
	return roles
}

// Waits implements sinks.Waiter: a command does not take a worker.
func (e *execution) Waits() bool { return true }

// Acts implements sinks.Actor.
func (e *execution) Acts() bool {
	return !e.ifcmd().given() && !e.nifcmd().given() && e.Creates == "" && len(e.Mtimes) == 0
}

// Announces implements sinks.Announcer: guards are not run twice.
func (e *execution) Announces() {}

// Watches implements sinks.Resource.
func (e *execution) Watches() []sources.Watch {
	var watches []sources.Watch
	if w := e.watchcmd(); w.given() {
		watches = append(watches, command.Lines(w.command))
	}
	watched := make(map[string]bool)
	for _, paths := range [][]string{e.WatchFiles, single(e.Creates), e.Mtimes} {
		for _, p := range paths {
			if !watched[p] {
				watched[p] = true
				watches = append(watches, inotify.Path(p))
			}
		}
	}
	if e.PollInt > 0 {
		watches = append(watches, sources.Interval{Every: e.PollInt})
	}
	return watches
}

// CheckApply implements sinks.Resource. It runs ifcmd and nifcmd even if apply is not
// set, as they only look.
func (e *execution) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	if ctx.Err() != nil {
		return sinks.Outcome{}, context.Cause(ctx)
	}
	needed, why, err := e.needed(ctx)
	if err != nil {
		return sinks.Outcome{}, err
	}
	if !needed {
		e.opts.Logger().Debug("not needed", "because", why)
		return sinks.Outcome{Values: maps.Clone(e.sent)}, nil
	}
	return e.run(ctx, apply)
}

// Refresh implements sinks.Refresher: it runs the command whether it is needed or not.
func (e *execution) Refresh(ctx context.Context, apply bool) (sinks.Outcome, error) {
	return e.run(ctx, apply)
}

// needed asks all who have a say, files first, and says who is against it.
func (e *execution) needed(ctx context.Context) (needed bool, why string, err error) {
	if needed, why, err = e.filesAsk(); !needed || err != nil {
		return false, why, err
	}
	if e.ifcmd().given() {
		switch yes, stdout, err := e.ask(ctx, e.ifcmd()); {
		case err != nil || !yes:
			return false, "ifcmd failed", err
		case e.IfEquals != nil && trimNewlines(stdout) != trimNewlines(*e.IfEquals):
			return false, "ifcmd printed something else", nil
		}
	}
	if e.nifcmd().given() {
		if yes, _, err := e.ask(ctx, e.nifcmd()); err != nil || yes {
			return false, "nifcmd succeeded", err
		}
	}
	return true, "", nil
}

func trimNewlines(s string) string { return strings.TrimRight(s, "\n") }

// ask runs a command that only looks. A status other than 0 is a no; it is an error that
// it can't be started or is killed.
func (e *execution) ask(ctx context.Context, r role) (yes bool, stdout string, err error) {
	result, err := process.Run(ctx, r.command, e.Timeout)
	if exit, ok := errors.AsType[*process.ExitError](err); ok && exit.Status.Exited() {
		return false, "", nil
	}
	if err != nil {
		return false, "", fmt.Errorf("%s %w", r.name, err)
	}
	return true, result.Stdout, nil
}

// filesAsk looks at creates and mtimes.
func (e *execution) filesAsk() (needed bool, why string, err error) {
	var made time.Time
	if e.Creates != "" {
		switch info, err := os.Stat(e.Creates); {
		case missing(err):
			return true, "", nil
		case err != nil:
			return false, "", err
		case len(e.Mtimes) == 0:
			return false, e.Creates + " exists", nil
		default:
			made = info.ModTime()
		}
	}
	if len(e.Mtimes) == 0 {
		return true, "", nil
	}
	now, err := e.mtimes()
	if err != nil {
		return false, "", err
	}
	for path, t := range now {
		if t.After(made) && t.After(e.seen[path]) {
			return true, "", nil
		}
	}
	return false, "no file of mtimes has been modified", nil
}

// mtimes are the modification times of the files that exist.
func (e *execution) mtimes() (map[string]time.Time, error) {
	times := make(map[string]time.Time, len(e.Mtimes))
	for _, path := range e.Mtimes {
		switch info, err := os.Stat(path); {
		case err == nil:
			times[path] = info.ModTime()
		case !missing(err):
			return nil, err
		}
	}
	return times, nil
}

// missing is true for the error of a path that does not exist, or whose parent is a file.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// run runs cmd and then donecmd.
func (e *execution) run(ctx context.Context, apply bool) (sinks.Outcome, error) {
	cmd := e.cmd()
	out := sinks.Outcome{Changed: true, Changes: []sinks.Change{{Field: "cmd", From: "(not run)", To: sinks.Text([]byte(shown(cmd.command)))}}}
	if !apply {
		return out, nil
	}
	// What is modified while the command runs is modified since then.
	seen, err := e.mtimes()
	if err != nil {
		return sinks.Outcome{}, err
	}
	if err := sinks.BeforeChange(ctx); err != nil {
		return sinks.Outcome{}, err
	}
	result, err := process.Run(ctx, cmd.command, e.Timeout)
	if !result.Started {
		return sinks.Outcome{}, fmt.Errorf("cmd %w", err)
	}
	values := valuesOf(result)
	if err != nil {
		return sinks.Outcome{Changed: true, Values: values}, fmt.Errorf("cmd %w", err)
	}
	if done := e.donecmd(); done.given() {
		if _, err := process.Run(ctx, done.command, e.Timeout); err != nil {
			return sinks.Outcome{Changed: true, Values: values}, fmt.Errorf("donecmd %w", err)
		}
	}
	out.Values = values
	e.remember(values)
	e.seen = seen
	return out, nil
}

// shown is the command for people.
func shown(c process.Command) string {
	return strings.Join(append([]string{c.Cmd}, c.Args...), " ")
}
