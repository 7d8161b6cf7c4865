package meshcli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmtproject/mgmt/cmd/internal/command"
	"github.com/mgmtproject/mgmt/pipeline/peer/members"
	"github.com/mgmtproject/mgmt/pipeline/peer/server"
	"github.com/mgmtproject/mgmt/sources/mesh/etcd"
)

const (
	// saveLimit is how long it may take to copy what a server holds.
	saveLimit = 10 * time.Minute

	// backLimit is how long the mesh may take to be back.
	backLimit = time.Minute
)

type recoverOptions struct {
	from  string
	yes   bool
	force bool
}

// recoverCommand begins a mesh anew that has lost most of its servers.
func recoverCommand(p Program) *cobra.Command {
	var at place
	var o recoverOptions
	cmd := &cobra.Command{
		Use:   "recover [FLAGS]",
		Short: "Begin the mesh anew with what is left, after most servers were lost",
		Long: `Begin the mesh anew, on this host, with what is left of it: for when most of its servers are gone
for good, so that the others can't agree on anything any more. As long as they may come back, wait:
they are at work again by themselves then, and nothing is lost.

First it shows what each server has that can still be asked, and what this host has if its server
does not run. Once that is confirmed, it saves what the newest of them has to a file, and makes it
the beginning of a mesh with this host as its first server. Hosts that run find it by themselves
and join it, also as servers. What the servers had agreed on that are gone, and that none of the
others knows, is lost. Data of a server that comes back is set aside, not deleted.

It works on a host that may serve; mgmt run may go on.`,
		Example: `  mgmt mesh recover
  mgmt mesh recover --from /backup/mesh.db --yes     what mgmt mesh save has saved`,
		ValidArgsFunction: cobra.NoFileCompletions,
		Args:              command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := at.reach()
			if err != nil {
				return err
			}
			defer r.close()
			return r.recover(cmd.Context(), p, o)
		},
	}
	at.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&o.from, "from", "", "begin with what was saved to `FILE` before, in the place of what the servers have")
	f.BoolVar(&o.yes, "yes", false, "don't ask")
	f.BoolVar(&o.force, "force", false, "do it although the servers can decide")
	return cmd
}

func (r *reached) recover(ctx context.Context, p Program, o recoverOptions) error {
	if !r.id.Serves() {
		return fmt.Errorf("host %s may not serve the mesh; do this on a host that may", r.host)
	}
	var deciding report
	var asking sync.WaitGroup
	asking.Go(func() { r.agree(ctx, &deciding) })
	left := r.holdings(ctx)
	asking.Wait()
	newest := slices.MaxFunc(left, byAge)
	writeHoldings(p.Out, left, newest)
	if deciding.Reached && !o.force {
		return errors.New("the servers can decide, so there is nothing to recover; --force does it nevertheless")
	}
	what := fmt.Sprintf("what was saved to %s", o.from)
	if o.from == "" {
		if newest.Problem != "" {
			return errors.New("no server has anything that could be saved; with a file that was saved before, give --from FILE")
		}
		what = fmt.Sprintf("what %s has, up to revision %d", newest.Where, newest.Revision)
	}
	fmt.Fprintf(p.Out, "\nThe mesh is going to begin anew on host %s with %s.\nServers that are gone must not come back with a majority of their own meanwhile.\n", r.host, what)
	if !o.yes {
		if err := confirm(p); err != nil {
			return err
		}
	}
	snapshot := o.from
	if snapshot == "" {
		snapshot = filepath.Join(r.dir, "recover-"+time.Now().UTC().Format("20060102T150405Z")+".db")
		if err := r.save(ctx, newest, snapshot); err != nil {
			return err
		}
		fmt.Fprintf(p.Out, "saved %s\n", snapshot)
	}
	return r.begin(ctx, p, snapshot)
}

// holdings are what is left of the mesh: on the servers that run, and in the directory of
// this host's own.
func (r *reached) holdings(ctx context.Context) []server.Holding {
	urls := slices.Clone(r.client.Endpoints())
	for _, m := range r.members(ctx) {
		urls = append(urls, m.ClientURLs...)
	}
	slices.Sort(urls)
	left := server.Survey(ctx, r.client, slices.Compact(urls))
	if own, err := server.Inspect(r.serverDir()); err == nil {
		left = append(left, own)
	} else if len(left) == 0 {
		left = append(left, server.Holding{Where: r.serverDir(), Problem: err.Error()})
	}
	return left
}

func (r *reached) serverDir() string { return filepath.Join(r.dir, "server") }

func writeHoldings(w io.Writer, left []server.Holding, newest server.Holding) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WHERE\tMEMBER\tINDEX\tTERM\tREVISION\tDATABASE\t")
	for _, h := range left {
		note := ""
		switch {
		case h.Problem != "":
			fmt.Fprintf(t, "%s\tnothing is known\t\t\t\t\t\n", h.Where)
			continue
		case h == newest:
			note = "newest"
		}
		fmt.Fprintf(t, "%s\t%v\t%d\t%d\t%d\t%s\t%s\n", h.Where, members.ID(h.Member), h.Index, h.Term, h.Revision, bytesText(h.Size), note)
	}
	_ = t.Flush() // what is shown to people
	for _, h := range left {
		if h.Problem != "" {
			fmt.Fprintf(w, "%s: %s\n", h.Where, strings.TrimSpace(h.Problem))
		}
	}
}

func confirm(p Program) error {
	fmt.Fprint(p.Out, "Go on? Type yes: ")
	line, err := bufio.NewReader(p.In).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(line) != "yes" {
		return errors.New("nothing was done, since that is no yes; --yes does it without being asked")
	}
	return nil
}

// save writes what is left somewhere to a file.
func (r *reached) save(ctx context.Context, from server.Holding, path string) error {
	ctx, done := context.WithTimeout(ctx, saveLimit)
	defer done()
	if from.Where == r.serverDir() {
		return server.SaveStopped(ctx, from.Where, path, server.Options{Name: r.host})
	}
	client, err := clientv3.New(etcd.Config([]string{from.Where}, r.id.ClientTLS()))
	if err != nil {
		return err
	}
	err = server.Save(ctx, client, path)
	return errors.Join(err, client.Close())
}

// begin begins the mesh with what was saved. If there is a peer it is done by the next one,
// which the agent starts at once: nobody else can have its directory meanwhile.
func (r *reached) begin(ctx context.Context, p Program, snapshot string) error {
	snapshot, err := filepath.Abs(snapshot)
	if err != nil {
		return err
	}
	if _, err := os.Stat(snapshot); err != nil {
		return err
	}
	if err := order(r.dir, snapshot); err != nil {
		return err
	}
	pid, err := holder(filepath.Join(r.dir, "lock"))
	if err != nil {
		return err
	}
	if pid == 0 {
		fmt.Fprintf(p.Out, "it begins when mgmt run is started on host %s\n", r.host)
		return nil
	}
	fmt.Fprintf(p.Out, "starting the peer of host %s (pid %d) anew\n", r.host, pid)
	if err := kill(pid); err != nil {
		return err
	}
	return r.await(ctx, p)
}

// await waits until the mesh is back.
func (r *reached) await(ctx context.Context, p Program) error {
	ctx, done := context.WithTimeout(ctx, backLimit)
	defer done()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		if _, err := os.Stat(orderFile(r.dir)); errors.Is(err, fs.ErrNotExist) {
			status := r.survey(ctx)
			if status.Reached {
				fmt.Fprintln(p.Out, "the mesh is back")
				return status.write(p.Out)
			}
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("the mesh is not back after %v; the log of mgmt run on host %s may say why", backLimit, r.host)
		}
	}
}
