package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mgmtproject/mgmt/cmd/internal/mesh"
	"github.com/mgmtproject/mgmt/pipeline"
)

// What --converged-timeout waits for.
const (
	scopeHost = "host"
	scopeMesh = "mesh"
)

// runOptions are the flags of mgmt run.
type runOptions struct {
	file             string
	convergedTimeout duration
	maxRuntime       duration
	noop             bool
	maxParallel      count
	resync           duration
	flapping         fights
	graphviz         string
	events           choice
	logFormat        choice
	logLevel         choice
	noColor          bool
	prefix           directory
	tmpPrefix        bool
	mesh             mesh.Settings
	convergedScope   choice
}

func runCommand(p Program) *cobra.Command {
	opts := runOptions{
		resync:    duration{Duration: pipeline.DefaultResync},
		flapping:  fights{pipeline.Fights{Repairs: 20, Window: 10 * time.Second}},
		events:    choice{among: []string{"json"}},
		logFormat: choice{value: "text", among: []string{"text", "json"}},
		logLevel:  choice{value: "info", among: []string{"debug", "info", "warn", "error"}},

		convergedScope: choice{value: scopeHost, among: []string{scopeHost, scopeMesh}},
	}
	cmd := &cobra.Command{
		Use:   "run --file FILE [FLAGS]",
		Short: "Bring this host to the state of a graph, and keep it there",
		Long: `Bring this host to the state that a graph file describes, and keep it there.

Each resource is checked and, where the host differs, put right: in the order of the edges,
and at the same time what is independent. From then on mgmt waits for events and repairs what
has changed at once. It goes on until it is stopped, or with --converged-timeout until nothing
has been pending for that long.

A graph file that is saved while mgmt runs is put in force: what is different in it runs, all
else goes on undisturbed. A version with mistakes is reported and changes nothing.

What has to survive the run is kept below the prefix, in a place of its own for each graph file: a
notification that a resource has not acted on yet is not lost, not even by kill -9. Two runs of the
same graph file at once need two prefixes. The prefix is /var/lib/mgmt as root, and otherwise
~/.local/state/mgmt; the variables MGMT_PREFIX, STATE_DIRECTORY and XDG_STATE_HOME change that. If
it can't be used, a warning says so, and nothing is kept. With --noop, what another run has left is
taken into account, and stays.

Times are numbers of seconds (5, 0.5), or have a unit (250ms, 2m).

The log is on standard error: a line for each change and each failure, and nothing while all is
right. The event stream (--events json) is on standard output; docs/events.md describes it. A
reader of either who is slow or gone does not hold mgmt up: lines are dropped, and counted.

SIGINT and SIGTERM stop mgmt in order within 5 seconds: what runs is cancelled, and commands that
it has started are ended. A second one stops it at once. SIGHUP does the same as SIGTERM when
mgmt was started from a terminal, which is gone then. Otherwise it makes mgmt read the graph file
at once; one that has changed is noticed without it.

A graph that exports, collects or keys something makes this host one of a mesh: a new one, or the
one of the hosts that --seeds names. docs/mesh.md tells how hosts of a network let each other in. On
one machine each run needs a --hostname of its own, and nothing else. The mesh is served by a
program beside mgmt, mgmt-mesh. While it can't be reached, the host is kept as it last was meant
to be. A graph without a need of a mesh starts none.

As a service of systemd mgmt tells when it is ready (Type=notify), what it is doing, and that it is
alive (WatchdogSec=), and logs to the journal with fields; docs/service.md describes it.

Exit status:
    0  converged; or stopped by a signal, having converged
    1  a resource has failed, each with a line at the end of standard error; or --max-runtime was
       over before all had converged; or another run is keeping the same graph file
    2  a mistake in the arguments or in the graph file, of which all are listed
   70  a fault of mgmt itself
  130  stopped by SIGINT before all had converged; 143 by SIGTERM, 129 by SIGHUP`,
		Example: `  mgmt run --file graph.yaml
  mgmt run --file graph.yaml --converged-timeout=0 --max-runtime=2m     once, in CI or cron
  mgmt run --file graph.yaml --converged-timeout=0 --noop               show the differences
  generate | mgmt run --file - --converged-timeout=5                    a graph from a program
  mgmt run --file graph.yaml --events json | jq -c 'select(.changed)'   changes, for programs
  mgmt run --file graph.yaml --graphviz graph.svg                       draw the graph as well
  mgmt run --file graph.yaml --seeds 192.0.2.1:2379 --join TOKEN       in a mesh, the first time`,
		ValidArgsFunction: cobra.NoFileCompletions,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unexpected argument %q; a graph file is given with --file %s", args[0], args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opts.check(); err != nil {
				return err
			}
			if code := newAgent(p, opts).run(cmd.Context()); code != exitOK {
				return exitStatus(code)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&opts.file, "file", "f", "", "the graph `FILE`, which is watched; - reads standard input, once")
	f.Var(&opts.convergedTimeout, "converged-timeout", "end once nothing has been pending for `TIME`; 0 ends as soon as all is done")
	f.Var(&opts.maxRuntime, "max-runtime", "end after `TIME` in any case, as a failure if all has not converged by then")
	f.BoolVarP(&opts.noop, "noop", "n", false, "change nothing: show what would change, and how")
	f.Var(&opts.maxParallel, "max-parallel", "check and apply no more than `N` resources at once (default: as many workers as suit the processors, and any number of commands that are waited for)")
	f.Var(&opts.resync, "resync", "look at all that is watched about every `TIME`, for changes without an event; 0 is never")
	f.Var(&opts.flapping, "flapping", "count a resource that was repaired `N/TIME` as being fought over: report it, and leave it alone for longer and longer after each repair; off is never")
	f.StringVar(&opts.graphviz, "graphviz", "", "draw each graph that comes into force to `FILE`: SVG if it ends in .svg, which needs the program dot, or else DOT")
	f.Var(&opts.events, "events", "write the event stream to standard output, as `FORMAT`: json")
	f.Var(&opts.logFormat, "log-format", "log as `FORMAT`: text, json")
	f.Var(&opts.logLevel, "log-level", "log what is of this `LEVEL` or above: debug, info, warn, error")
	prefixFlag(cmd, &opts.prefix, "keep what has to survive the run below `DIR`")
	f.BoolVar(&opts.tmpPrefix, "tmp-prefix", false, "keep it in a temporary directory, which is removed at the end")
	opts.mesh.Flags(f)
	f.Var(&opts.convergedScope, "converged-scope", "with --converged-timeout, wait until nothing has been pending on `WHAT`: host, or mesh for all hosts of the mesh that run with this, which then end together")
	f.BoolVar(&opts.noColor, "no-color", false, "log without colours, as if NO_COLOR were set; they are used on a terminal only")
	for flag, extensions := range map[string][]string{"file": graphExtensions, "graphviz": {"dot", "svg"}} {
		if err := cmd.MarkFlagFilename(flag, extensions...); err != nil {
			panic(err)
		}
	}
	for flag, c := range map[string]choice{"events": opts.events, "log-format": opts.logFormat, "log-level": opts.logLevel, "converged-scope": opts.convergedScope} {
		complete(cmd, flag, c.among...)
	}
	complete(cmd, "flapping", "off")
	for _, flag := range []string{"converged-timeout", "max-runtime", "max-parallel", "resync", "hostname", "seeds", "client-urls", "server-urls", "advertise-client-urls", "advertise-server-urls", "join"} {
		complete(cmd, flag)
	}
	return cmd
}

// together says that the run ends when all hosts of the mesh have converged.
func (o *runOptions) together() bool { return o.convergedScope.value == scopeMesh }

// check finds mistakes that no flag has on its own.
func (o *runOptions) check() error {
	if o.file == "" {
		return usagef("which graph? Give it with --file FILE, or --file - for standard input")
	}
	if o.maxRuntime.given && o.maxRuntime.Duration == 0 {
		return usagef("--max-runtime: 0 leaves no time for anything; leave the flag out for no limit")
	}
	if o.tmpPrefix && o.prefix.path != "" {
		return usagef("--prefix and --tmp-prefix: give one of them")
	}
	if o.convergedScope.value == scopeMesh && !o.convergedTimeout.given {
		return usagef("--converged-scope mesh says what --converged-timeout waits for: give that too")
	}
	if o.together() && o.noop {
		return usagef("--converged-scope mesh and --noop: a run that changes nothing takes no part in a mesh")
	}
	return o.checkGraphviz()
}

// checkGraphviz finds mistakes in where the graph is to be drawn.
func (o *runOptions) checkGraphviz() error {
	if o.graphviz == "" {
		return nil
	}
	if info, err := os.Stat(filepath.Dir(o.graphviz)); err != nil || !info.IsDir() {
		return usagef("--graphviz: there is no directory %s", filepath.Dir(o.graphviz))
	}
	if info, err := os.Stat(o.graphviz); err == nil && !info.Mode().IsRegular() {
		return usagef("--graphviz: %s is not a regular file", o.graphviz)
	}
	if drawsSVG(o.graphviz) {
		if _, err := exec.LookPath("dot"); err != nil {
			return usagef("--graphviz: the program dot, which draws SVG, is not installed; install graphviz, or give a file that ends in .dot")
		}
	}
	return nil
}

func drawsSVG(path string) bool { return strings.EqualFold(filepath.Ext(path), ".svg") }
