package cli

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/mgmtproject/mgmt/cmd/internal/console"
	"github.com/mgmtproject/mgmt/pipeline"
)

// drawer writes graphs to a file, beside the run: of several that come while it draws,
// only the newest.
type drawer struct {
	path   string
	log    *slog.Logger
	cancel context.CancelFunc
	newest chan *pipeline.Graph
	done   chan struct{}
}

func newDrawer(path string, log *slog.Logger) *drawer {
	ctx, cancel := context.WithCancel(context.Background())
	d := &drawer{path: path, log: log, cancel: cancel, newest: make(chan *pipeline.Graph, 1), done: make(chan struct{})}
	go func() {
		defer close(d.done)
		for g := range d.newest {
			err := safely(func() error { return d.write(ctx, g) })
			if err != nil && ctx.Err() == nil {
				log.Error("not drawn", "error", console.Describe(err))
			}
		}
	}()
	return d
}

// put hands over a graph. It is called by one goroutine at a time.
func (d *drawer) put(g *pipeline.Graph) {
	select {
	case <-d.newest:
	default:
	}
	d.newest <- g
}

// end returns when all is drawn, or soon after ctx is done.
func (d *drawer) end(ctx context.Context) {
	close(d.newest)
	select {
	case <-d.done:
	case <-ctx.Done():
		d.cancel()
		<-d.done
	}
	d.cancel()
}

func (d *drawer) write(ctx context.Context, g *pipeline.Graph) error {
	picture := []byte(g.DOT())
	if drawsSVG(d.path) {
		var err error
		if picture, err = pipeline.SVG(ctx, string(picture)); err != nil {
			return err
		}
	}
	return replace(d.path, picture)
}

// replace puts data in the place of a file, which is complete at every moment.
func replace(path string, data []byte) error {
	if to, err := filepath.EvalSymlinks(path); err == nil {
		path = to
	}
	temp := fmt.Sprintf("%s.%d.tmp", path, os.Getpid())
	err := os.WriteFile(temp, data, 0o666) //nolint:gosec // the umask decides
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		_ = os.Remove(temp)
	}
	return err
}
