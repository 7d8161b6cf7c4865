package meshcli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mgmtproject/mgmt/cmd/internal/command"
	"github.com/mgmtproject/mgmt/cmd/internal/mesh"
	"github.com/mgmtproject/mgmt/pipeline/peer/identity"
	"github.com/mgmtproject/mgmt/sources/mesh/wire"
)

// leaveLimit is how long a peer tries to leave its mesh in order. Its agent may have less
// time, and ends it then.
const leaveLimit = 10 * time.Second

// serveCommand is what an agent starts. It is hidden: nobody else can use it.
func serveCommand(p Program) *cobra.Command {
	var settings mesh.Settings
	dir, verbose := "", false
	cmd := &cobra.Command{
		Use:    "serve --dir DIR [FLAGS]",
		Short:  "Be the peer of an agent",
		Hidden: true,
		Long: `Be the peer of an agent, mgmt run, which starts it and speaks with it over a socket that it
hands over. It leaves the mesh in order on SIGTERM, and ends without a word when its agent does.`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings.Join = os.Getenv(mesh.JoinVariable)
			if err := os.Unsetenv(mesh.JoinVariable); err != nil {
				return err
			}
			conn, err := agentConn()
			if err != nil {
				return command.Usagef("it is started by mgmt run, which speaks with it over a socket: %w", err)
			}
			level := slog.LevelInfo
			if verbose {
				level = slog.LevelDebug
			}
			err = serve(cmd.Context(), wire.NewServer(conn), level, dir, settings)
			if _, ok := errors.AsType[refusal](err); ok {
				fmt.Fprintln(p.Err, err)
				return command.ExitStatus(mesh.RefusedStatus)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", "", "keep what has to survive it in `DIR`")
	f.BoolVar(&verbose, "debug", false, "log what is at level debug as well")
	settings.Flags(f)
	if err := cmd.MarkFlagRequired("dir"); err != nil {
		panic(err) // there is no such flag
	}
	return cmd
}

// refusal is an error that no waiting and no other try can mend.
type refusal struct{ error }

// Unwrap gives the reason.
func (r refusal) Unwrap() error { return r.error }

// agentConn is the socket that an agent has handed over.
func agentConn() (net.Conn, error) {
	f := os.NewFile(mesh.Socket, "agent")
	defer f.Close() // FileConn makes a copy
	return net.FileConn(f)
}

// serve is the life of a peer.
func serve(ctx context.Context, agent *wire.Server, level slog.Level, dir string, settings mesh.Settings) error {
	defer agent.Close()
	economise()
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := allowed(dir, settings); err != nil {
		return refusal{err}
	}
	log := slog.New(agent.Handler(level))
	type opened struct {
		peer *peer
		err  error
	}
	opening := make(chan opened, 1)
	go func() {
		p, err := open(ctx, dir, settings, log)
		opening <- opened{p, err}
	}()
	var p *peer
	for {
		var ended <-chan struct{}
		if p != nil {
			ended = p.Done()
		}
		select {
		case <-agent.Done():
			os.Exit(exitFailed) // nobody is there to hear why
		case o := <-opening:
			if o.err != nil {
				return o.err
			}
			p = o.peer
			agent.Attach(p.Store())
		case <-ended:
			return p.Err()
		case <-ctx.Done():
			return leave(p)
		}
	}
}

// leave leaves the mesh in order, if there is one by now.
func leave(p *peer) error {
	if p == nil {
		return nil
	}
	ctx, done := context.WithTimeout(context.Background(), leaveLimit)
	defer done()
	return p.Close(ctx)
}

// allowed says whether the settings are such that a mesh is safe with them.
func allowed(dir string, s mesh.Settings) error {
	id, err := identity.Open(filepath.Join(dir, "identity"))
	if err != nil {
		return err
	}
	if err := id.Check(s.Name()); err != nil {
		return err
	}
	secured := id.Secured() || s.Join != ""
	listen := append(append([]string{}, s.ClientURLs...), s.ServerURLs...)
	if err := identity.Allow("listen on", listen, secured, s.Insecure); err != nil {
		return err
	}
	return identity.Allow("dial", s.Seeds, secured, s.Insecure)
}

// economise trades some CPU for memory: a peer has little to do.
func economise() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(48 << 20)
	}
}
