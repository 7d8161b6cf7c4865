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
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mgmtproject/mgmt/cmd/internal/command"
	"github.com/mgmtproject/mgmt/cmd/internal/mesh"
	"github.com/mgmtproject/mgmt/pipeline/peer"
	"github.com/mgmtproject/mgmt/pipeline/peer/identity"
	store "github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/wire"
)

// leaveLimit is how long a peer tries to leave its mesh in order. Its agent may have less
// time, and ends it then.
const leaveLimit = 10 * time.Second

// serveCommand is what an agent starts. It is hidden: nobody else can use it.
func serveCommand(p Program) *cobra.Command {
	var settings mesh.Settings
	dir, verbose, failed := "", false, 0
	cmd := &cobra.Command{
		Use:    "serve --dir DIR [FLAGS]",
		Short:  "Be the peer of an agent",
		Hidden: true,
		Long: `Be the peer of an agent, mgmt run, which starts it and speaks with it over a socket that it
hands over. It leaves the mesh in order on SIGTERM, and ends without a word when its agent does.`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings.Join = mesh.Token(os.Getenv(mesh.JoinVariable))
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
			err = serve(cmd.Context(), wire.NewServer(conn), level, dir, settings, failed)
			if _, ok := errors.AsType[refusal](err); ok {
				fmt.Fprintln(p.Err, err)
				return command.ExitStatus(mesh.RefusedStatus)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", "", "keep what has to survive it in `DIR`")
	f.IntVar(&failed, "failed", 0, "`N` peers before this one have ended by themselves")
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
func serve(ctx context.Context, agent *wire.Server, level slog.Level, dir string, settings mesh.Settings, failed int) error {
	defer agent.Close()
	economise()
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := allowed(dir, settings); err != nil {
		return refusal{err}
	}
	log := slog.New(agent.Handler(level))
	type opened struct {
		peer *peer.Peer
		err  error
	}
	opening := make(chan opened, 1)
	began := time.Now()
	go func() {
		p, err := open(ctx, dir, settings, failed, log)
		opening <- opened{p, err}
	}()
	var p *peer.Peer
	for {
		var ended <-chan struct{}
		if p != nil {
			ended = p.Done()
		}
		select {
		case <-agent.Done():
			os.Exit(exitFailed) // nobody is there to hear why
		case o := <-opening:
			if o.err != nil && ctx.Err() != nil {
				return nil
			} else if errors.Is(o.err, identity.ErrNotAdmitted) {
				return refusal{o.err}
			} else if o.err != nil {
				return o.err
			}
			p = o.peer
			agent.Attach(shared{p.Store(), p.Vault()})
			log.Info("mesh ready", "host", settings.Name(), "servers", strings.Join(p.Status().Servers, ","), "after", time.Since(began).Round(time.Millisecond))
		case <-ended:
			return p.Err()
		case <-ctx.Done():
			return leave(p)
		}
	}
}

// open takes part in the mesh, and begins it anew before if that was asked for.
func open(ctx context.Context, dir string, s mesh.Settings, failed int, log *slog.Logger) (*peer.Peer, error) {
	anew, err := obey(dir, s, log)
	if err != nil {
		return nil, err
	}
	o := options(dir, s, log)
	o.Failed = failed
	p, err := peer.Open(ctx, o)
	if err == nil && anew {
		if err := depose(ctx, p.Store()); err != nil {
			log.Warn("hosts of the mesh before are waited for", "error", err)
		}
	}
	return p, err
}

// shared is what an agent sees of the mesh.
type shared struct {
	store.Store
	store.Vault
}

func options(dir string, s mesh.Settings, log *slog.Logger) peer.Options {
	return peer.Options{
		Host: s.Name(), Dir: dir, Seeds: s.Seeds,
		ClientURLs: s.ClientURLs, ServerURLs: s.ServerURLs,
		AdvertiseClientURLs: s.AdvertiseClientURLs, AdvertiseServerURLs: s.AdvertiseServerURLs,
		IdealSize: int(s.IdealSize), NoServer: s.NoServer, Insecure: s.Insecure, Join: s.Join.String(),
		Log: log,
	}
}

// leave leaves the mesh in order, if there is one by now.
func leave(p *peer.Peer) error {
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
	if path, missing := s.Join.Missing(); missing && !id.Secured() {
		return fmt.Errorf("there is no token in %s, and this host has not joined a mesh yet", path)
	}
	secured := id.Secured() || s.Join != ""
	if err := identity.Allow("listen on", urls(secured, s.ClientURLs, s.ServerURLs), secured, s.Insecure); err != nil {
		return err
	}
	return identity.Allow("dial", urls(secured, s.Seeds), secured, s.Insecure)
}

// urls makes URLs of addresses.
func urls(secured bool, lists ...mesh.Addresses) []string {
	var all []string
	for _, a := range slices.Concat(lists...) {
		switch {
		case strings.Contains(a, "://"):
		case secured:
			a = "https://" + a
		default:
			a = "http://" + a
		}
		all = append(all, a)
	}
	return all
}

// economise trades some CPU for memory: a peer has little to do. A limit would make one that
// has much to hold do nothing but collect garbage.
func economise() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}
