package sinktest

import (
	"context"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/params"
)

// goTypes are the Go types that types of outputs stand for.
var goTypes = map[sinks.Type]reflect.Type{
	sinks.TypeString:  reflect.TypeFor[string](),
	sinks.TypeInt:     reflect.TypeFor[int64](),
	sinks.TypeFloat:   reflect.TypeFor[float64](),
	sinks.TypeBool:    reflect.TypeFor[bool](),
	sinks.TypeStrings: reflect.TypeFor[[]string](),
	sinks.TypeMap:     reflect.TypeFor[map[string]string](),
}

// outputs returns what the kind says that it sends, which has to be sound.
func (k *kit) outputs() []sinks.Output {
	s, ok := k.cfg.(sinks.Sender)
	if !ok {
		return nil
	}
	outputs := s.Outputs()
	names := map[string]bool{}
	for _, o := range outputs {
		switch {
		case o.Name == "" || names[o.Name]:
			k.Errorf("Outputs has the name %q twice, or without a letter", o.Name)
		case goTypes[o.Type] == nil:
			k.Errorf("the output %s is of the type %q, which there is not", o.Name, o.Type)
		case o.Doc == "":
			k.Errorf("the output %s is not documented", o.Name)
		}
		names[o.Name] = true
	}
	return outputs
}

// values checks that what is sent is as the Outputs say, and that what is secret is not
// shown.
func (k *kit) values(out sinks.Outcome, what string) {
	k.Helper()
	for _, name := range slices.Sorted(maps.Keys(out.Values)) {
		value := out.Values[name]
		i := slices.IndexFunc(k.sends, func(o sinks.Output) bool { return o.Name == name })
		if i < 0 {
			k.Errorf("%s sends %s, which is not among the Outputs of the Config", what, name)
			continue
		}
		o := k.sends[i]
		if got := reflect.TypeOf(value); got != goTypes[o.Type] {
			k.Errorf("%s sends %s as a %v, want a %v as its type is %s", what, name, got, goTypes[o.Type], o.Type)
		}
		text, _ := value.(string)
		if !o.Secret || text == "" {
			continue
		}
		for _, c := range out.Changes {
			if !c.Secret && (strings.Contains(c.From, text) || strings.Contains(c.To, text)) {
				k.Errorf("%s shows the output %s, which is secret, in the change of %s", what, name, c.Field)
			}
		}
	}
}

// grouped checks that a group of one does what the resource does alone.
func (k *kit) grouped() {
	g, ok := k.r.(sinks.Grouper)
	if !ok || g.Group() == "" || k.c.Disturb == nil {
		return
	}
	if one, two := k.inGroup(true, "an idle apply of a group"), k.must(true, "an idle apply"); !reflect.DeepEqual(one, two) {
		k.Errorf("an idle apply of a group of one says %+v, and of the resource alone %+v", one, two)
	}
	k.disturb()
	bad := k.state()
	one, two := k.inGroup(false, "a check of a group"), k.must(false, "a check")
	if !reflect.DeepEqual(one, two) {
		k.Errorf("a check of a group of one says %+v, and of the resource alone %+v", one, two)
	}
	k.unchanged(bad, "a check of a group")
	k.obeys("CheckApplyGroup", func(ctx context.Context) error {
		var err error
		for _, r := range g.CheckApplyGroup(ctx, true, []sinks.Resource{k.r}) {
			err = r.Err
		}
		return err
	})
	if out := k.inGroup(true, "a repair by a group"); !out.Changed {
		k.Error("a repair by a group does not report a change")
	}
	k.check("after a repair by a group")
}

// inGroup applies a group of one, which must not fail.
func (k *kit) inGroup(apply bool, what string) sinks.Outcome {
	k.Helper()
	results := k.r.(sinks.Grouper).CheckApplyGroup(k.Context(), apply, []sinks.Resource{k.r})
	if len(results) != 1 {
		k.Fatalf("%s has %d results for one member", what, len(results))
	}
	if results[0].Err != nil {
		k.Fatalf("%s failed: %v", what, results[0].Err)
	}
	k.values(results[0].Outcome, what)
	return results[0].Outcome
}

// planned checks that a plan changes nothing and, if it may look, foretells what a check
// sees.
func (k *kit) planned() {
	p, ok := k.r.(sinks.Planner)
	if !ok {
		return
	}
	plan := func(when string) {
		before := k.state()
		seen := k.must(false, "a check "+when)
		for _, safe := range []bool{false, true} {
			for _, refresh := range []bool{false, true} {
				out, err := p.Plan(k.Context(), safe, refresh)
				if err != nil {
					k.Errorf("a plan %s failed: %v", when, err)
				}
				if safe && !refresh && out.Changed != seen.Changed {
					k.Errorf("a plan %s: Changed is %v, but a check says %v", when, out.Changed, seen.Changed)
				}
			}
		}
		k.unchanged(before, "a plan "+when)
	}
	plan("of what is right")
	if k.c.Disturb != nil {
		k.disturb()
		plan("after a disturbance")
		k.must(true, "an apply after a plan")
	}
}

// reversed checks that a resource which can be undone is, to what was before.
func (k *kit) reversed() {
	r, ok := k.cfg.(sinks.Reverser)
	if !ok {
		if k.c.Undone != nil {
			k.Error("the case can be undone, but the Config is no sinks.Reverser")
		}
		return
	}
	before := k.state()
	_, err := r.Reverse(nil)
	if err != nil && k.c.Undone != nil {
		k.Fatalf("the case can be undone, but the kind says: %v", err)
	}
	if cfg, _ := r.Reverse(map[string]string{}); cfg != nil {
		k.Errorf("where nothing was changed it would be undone by %+v", cfg)
	}
	k.unchanged(before, "Reverse")
	if k.c.Undone == nil {
		return
	}
	if k.c.Disturb != nil {
		k.disturb()
	}
	was := k.undone()
	found := map[string]string{}
	for _, c := range k.must(true, "an apply that is to be undone").Changes {
		if found[c.Field] = c.From; c.Secret {
			found[c.Field] = sinks.Withheld
		}
	}
	cfg, err := r.Reverse(found)
	if err != nil || cfg == nil {
		k.Fatalf("Reverse of what was %q returned %v, %v", found, cfg, err)
	}
	saved, again := "", k.spec.New()
	if reflect.TypeOf(cfg) == reflect.TypeOf(again) {
		if saved, err = params.Marshal(cfg, k.spec.New()); err == nil {
			err = params.Unmarshal(again, saved)
		}
	}
	if err != nil || !reflect.DeepEqual(cfg, again) {
		k.Fatalf("what undoes it, %+v, is not the same when it is read again from its parameters %q: %+v, %v", cfg, saved, again, err)
	}
	undo, err := cfg.Build(k.c.Resource, sinks.Options{Log: slog.New(slog.DiscardHandler), Mesh: k.c.Mesh})
	if err != nil {
		k.Fatalf("what undoes it can't be built: %v", err)
	}
	for _, changed := range []bool{true, false} {
		if out, err := undo.CheckApply(k.Context(), true); err != nil || out.Changed != changed {
			k.Errorf("undoing it: %+v, %v; want Changed to be %v", out, err, changed)
		}
	}
	if now := k.undone(); now != was {
		k.Errorf("undone it is\n%s\nwant what it was before:\n%s", now, was)
	}
	k.must(true, "an apply after it was undone")
}

func (k *kit) undone() string {
	k.Helper()
	s, err := k.c.Undone()
	if err != nil {
		k.Fatalf("taking what is undone: %v", err)
	}
	return s
}
