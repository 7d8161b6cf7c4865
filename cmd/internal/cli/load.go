package cli

import (
	"slices"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/graphfile"
	"github.com/mgmtproject/mgmt/sources/inotify"
	"github.com/mgmtproject/mgmt/streams"
)

// texts are the versions of the graph file. It is watched by the source that also
// watches files for the resources, so that the process has one inotify instance.
func (a *agent) texts(list []sources.Source) streams.Observable[graphfile.Text] {
	if a.opts.file == stdinName {
		return graphfile.Read(a.prog.In, "standard input")
	}
	i := slices.IndexFunc(list, func(s sources.Source) bool { return s.Name() == inotify.Name })
	return graphfile.Observe(a.opts.file, list[i].(*inotify.Source))
}

// loader makes graphs of texts.
func (a *agent) loader(reg *sinks.Registry, opts sinks.Options) func(graphfile.Text) pipeline.Update {
	return func(t graphfile.Text) pipeline.Update {
		if t.Err != nil {
			return pipeline.Update{Err: &graphError{t.Err}}
		}
		a.memory.loaded(len(t.Data))
		g, err := compile(t.Name, t.Data, reg, opts)
		if err != nil {
			return pipeline.Update{Err: &graphError{err}}
		}
		return pipeline.Update{Graph: g}
	}
}
