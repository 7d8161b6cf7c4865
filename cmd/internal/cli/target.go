package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mgmtproject/mgmt/cmd/internal/control"
	"github.com/mgmtproject/mgmt/cmd/internal/instance"
	"github.com/mgmtproject/mgmt/cmd/internal/mesh"
)

// target says which of the runs on this host is asked.
type target struct {
	prefix directory
	file   string
	host   mesh.Host
	socket string
}

// flags adds those with which a run is chosen.
func (t *target) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&t.file, "file", "f", "", "ask the run that keeps the graph `FILE`; - is one that has read standard input")
	f.Var(&t.host, "hostname", "ask the run that was given the name `NAME` in a mesh")
	prefixFlag(cmd, &t.prefix, "look for runs below `DIR`, as given to mgmt run")
	f.StringVar(&t.socket, "socket", "", "ask the run that answers at the socket `PATH`")
	if err := cmd.MarkFlagFilename("file", graphExtensions...); err != nil {
		panic(err) // there is no such flag
	}
}

// client returns a client of the run, and the graph file that it keeps if that is known.
func (t *target) client(ctx context.Context) (c *control.Client, file string, err error) {
	if t.socket != "" {
		if t.file != "" || t.prefix.path != "" || t.host != "" {
			return nil, "", usagef("--socket says which run, so there is no need of --file and --prefix, nor of --hostname")
		}
		return control.NewClient(t.socket), "", nil
	}
	prefix, _, err := t.prefix.choose()
	if err != nil {
		return nil, "", err
	}
	runs, err := t.runs(prefix)
	switch {
	case err != nil:
		return nil, "", err
	case len(runs) == 0 && t.file != "":
		return nil, "", fmt.Errorf("no run is keeping %s below %s; %s", t.file, prefix, hint())
	case len(runs) == 0:
		return nil, "", fmt.Errorf("no run is under way below %s; %s", prefix, hint())
	case len(runs) > 1:
		var list strings.Builder
		for _, r := range runs {
			fmt.Fprintf(&list, "\n  --file %s", r.File)
			if r.Host != "" {
				fmt.Fprintf(&list, " --hostname %s", r.Host)
			}
			fmt.Fprintf(&list, "    (pid %d)", r.PID)
		}
		return nil, "", fmt.Errorf("%d runs are under way; say which one you mean with one of these:%s", len(runs), &list)
	}
	return clientOf(ctx, runs[0].Place), runs[0].File, nil
}

// runs finds those that are under way and may be meant.
func (t *target) runs(prefix string) ([]instance.Running, error) {
	file := ""
	if t.file != "" {
		place, err := instance.At(prefix, t.file)
		if err != nil {
			return nil, err
		}
		if place = place.For(t.host.String()); place.Held() {
			return []instance.Running{{Place: place}}, nil
		}
		file = place.File
	}
	runs, err := instance.List(prefix)
	return slices.DeleteFunc(runs, func(r instance.Running) bool {
		return file != "" && r.File != file || t.host != "" && r.Host != t.host.String()
	}), err
}

// clientOf returns a client of the run that has a place.
func clientOf(ctx context.Context, place instance.Place) *control.Client {
	c := control.NewClient(place.Socket())
	c.Await(ctx, 10*unasked)
	return c
}

// hint is what to do if no run was found.
func hint() string {
	text := "start one with mgmt run --file FILE, or say with --prefix DIR where it keeps its state"
	if os.Geteuid() != 0 {
		text += "; a run of root is seen by root only"
	}
	return text
}
