// Command swarm measures what a mesh costs when it is large: some servers, each a process
// of its own, and many light agents, each with the client of a real one but no machine behind
// it.
//
//	go run ./cmd/internal/swarm --servers 5 --agents 10,100,1000
//
// With --compile they also make of what they collect the graphs that a real one would run,
// which is what takes the time of an agent, and so of this machine.
//
// For each number of agents it prints how long it takes until every agent has what all of
// them export, how long until a change of one of them has reached all, and what that costs
// an agent and a server. All of it runs on one machine: the times are those of its
// processors, not of a network.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mgmtproject/mgmt/pipeline/peer/server"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "swarm:", err)
		os.Exit(1)
	}
}

// settings are the flags.
type settings struct {
	servers int
	agents  []int
	exports int
	changes int
	compile bool
}

func command() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:           "swarm",
		Short:         "Measure a mesh of some servers and many light agents on this machine",
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintln(cmd.OutOrStdout(), head)
			for _, n := range s.agents {
				f, err := measure(cmd.Context(), s, n)
				if err != nil {
					return fmt.Errorf("%d agents: %w", n, err)
				}
				fmt.Fprintln(cmd.OutOrStdout(), f)
			}
			return nil
		},
	}
	cmd.Flags().IntVar(&s.servers, "servers", 5, "servers, all of them voters")
	cmd.Flags().IntSliceVar(&s.agents, "agents", []int{10, 100}, "light agents, a measurement for each number")
	cmd.Flags().IntVar(&s.exports, "exports", 2, "resources that each agent exports")
	cmd.Flags().IntVar(&s.changes, "changes", 5, "changes of one resource, one after another")
	cmd.Flags().BoolVar(&s.compile, "compile", false, "have agents compile what they collect")
	cmd.AddCommand(serverCommand())
	return cmd
}

// serverCommand is what the servers run as, until they are killed.
func serverCommand() *cobra.Command {
	var o server.Options
	cmd := &cobra.Command{
		Use:    "server",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
			s, err := server.Start(cmd.Context(), o)
			if err != nil {
				return err
			}
			<-s.Done()
			return s.Err()
		},
	}
	cmd.Flags().StringVar(&o.Name, "name", "", "")
	cmd.Flags().StringVar(&o.Dir, "dir", "", "")
	cmd.Flags().StringSliceVar(&o.ClientURLs, "client", nil, "")
	cmd.Flags().StringSliceVar(&o.PeerURLs, "peer", nil, "")
	cmd.Flags().StringVar(&o.InitialCluster, "cluster", "", "")
	return cmd
}

// voters are the servers of one measurement.
type voters struct {
	processes []*exec.Cmd
	endpoints []string
}

// start starts n servers in dir, which find each other.
func start(ctx context.Context, dir string, n int) (*voters, error) {
	ports, err := freePorts(2 * n)
	if err != nil {
		return nil, err
	}
	var cluster []string
	for i := range n {
		cluster = append(cluster, fmt.Sprintf("s%d=http://127.0.0.1:%d", i, ports[2*i]))
	}
	v := &voters{}
	for i := range n {
		client := fmt.Sprintf("http://127.0.0.1:%d", ports[2*i+1])
		cmd := exec.CommandContext(ctx, "/proc/self/exe", "server",
			"--name", fmt.Sprint("s", i), "--dir", filepath.Join(dir, strconv.Itoa(i)),
			"--client", client, "--peer", fmt.Sprintf("http://127.0.0.1:%d", ports[2*i]), "--cluster", strings.Join(cluster, ","))
		cmd.Stderr = os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			return nil, errors.Join(err, v.stop())
		}
		v.processes, v.endpoints = append(v.processes, cmd), append(v.endpoints, client)
	}
	return v, nil
}

// stop ends the servers, at once: nobody wants their data.
func (v *voters) stop() error {
	var errs []error
	for _, p := range v.processes {
		errs = append(errs, p.Process.Kill())
		_ = p.Wait()
	}
	return errors.Join(errs...)
}

// cpu is the processor time that they have used, all together, and memory the most that one
// of them holds, in bytes.
func (v *voters) cpu() (cpu time.Duration, memory int64, err error) {
	for _, p := range v.processes {
		c, m, e := usage(p.Process.Pid)
		cpu, memory, err = cpu+c, max(memory, m), errors.Join(err, e)
	}
	return cpu, memory, err
}
