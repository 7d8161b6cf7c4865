package print_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/params"
	"github.com/mgmtproject/mgmt/sinks/print"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
)

func TestConformance(t *testing.T) {
	sinktest.Run(t, print.Spec,
		sinktest.Case{Name: "the name is printed", Resource: "hello", Acts: true},
		sinktest.Case{Name: "a message is printed", Resource: "hello", Params: map[string]any{"msg": "good day"}, Acts: true},
	)
}

func TestWhatIsPrinted(t *testing.T) {
	check, refresh := sinks.Resource.CheckApply, func(r sinks.Resource, ctx context.Context, apply bool) (sinks.Outcome, error) {
		return r.(sinks.Refresher).Refresh(ctx, apply)
	}
	tests := []struct {
		name   string
		params map[string]any
		do     func(sinks.Resource, context.Context, bool) (sinks.Outcome, error)
		apply  bool
		want   string // what is logged
		change string // what is printed, or would be
	}{
		{"the name", nil, check, true, "level=INFO msg=hello\n", "hello"},
		{"the name on a refresh", nil, refresh, true, "level=INFO msg=hello\n", "hello"},
		{"a message", map[string]any{"msg": "good day"}, check, true, "level=INFO msg=\"good day\"\n", "good day"},
		{"an empty message", map[string]any{"msg": ""}, check, true, "level=INFO msg=\"\"\n", ""},
		{"nothing on a check", nil, check, false, "", "hello"},
		{"nothing without a refresh", map[string]any{"refresh_only": true}, check, true, "", "none"},
		{"a message on a refresh only", map[string]any{"refresh_only": true}, refresh, true, "level=INFO msg=hello\n", "hello"},
		{"nothing on a check of a refresh", map[string]any{"refresh_only": true}, refresh, false, "", "hello"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			r := build(t, &log, tt.params)
			out, err := tt.do(r, t.Context(), tt.apply)
			if err != nil || log.String() != tt.want {
				t.Errorf("got %v, log %q; want %q", err, log.String(), tt.want)
			}
			if tt.change == "none" {
				if out.Changed || len(out.Changes) > 0 {
					t.Errorf("got %+v, want no change", out)
				}
			} else if tt.apply {
				if !out.Changed || len(out.Changes) > 0 {
					t.Errorf("got %+v, want a change that the log tells", out)
				}
			} else if !out.Changed || len(out.Changes) != 1 || out.Changes[0].Field != "msg" || out.Changes[0].To != tt.change {
				t.Errorf("got %+v, want a change to %q", out, tt.change)
			}
			if acts := r.(sinks.Actor).Acts(); acts == (tt.params["refresh_only"] == true) {
				t.Errorf("Acts is %v", acts)
			}
		})
	}
}

func TestCancelled(t *testing.T) {
	var log bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := build(t, &log, nil).CheckApply(ctx, true); !errors.Is(err, context.Canceled) || log.Len() > 0 {
		t.Errorf("got %v, log %q", err, log.String())
	}
}

// build makes a resource of the name hello that logs to w, without times.
func build(t *testing.T, w *bytes.Buffer, values map[string]any) sinks.Resource {
	t.Helper()
	cfg := print.Spec.New()
	if err := params.DecodeMap(cfg, values); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{ReplaceAttr: withoutTime}))
	r, err := cfg.Build("hello", sinks.Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}
