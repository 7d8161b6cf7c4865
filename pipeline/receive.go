package pipeline

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/mgmtproject/mgmt/operators"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/params"
)

// input is a value that a unit is sent.
type input struct {
	Link
	from *unit
}

// inbox is what a unit that is sent values has made of them, and what one that sends has
// sent. It is guarded by engine.values.
type inbox struct {
	sent  map[string]any // by output: the newest values
	got   []any          // by input: what built is made of, and the failed attempt to build it
	built sinks.Resource // nil until all values are there
}

// WaitingError is why a resource does not run: a value that it is sent is not there.
type WaitingError struct {
	// By is who has not sent the value, Output its name.
	By     *Vertex
	Output string
}

// Error implements error.
func (e *WaitingError) Error() string {
	return fmt.Sprintf("waits for %s, which has not sent %s", e.By, e.Output)
}

func waitingFor(err error) *WaitingError {
	if err == nil {
		return nil
	}
	w, _ := errors.AsType[*WaitingError](err)
	return w
}

// receive builds the resource anew if the values that it is sent are others than before.
func (u *unit) receive(w *wiring, s *special) error {
	old := u.resource()
	values, changed, err := u.collect(w, s)
	if err != nil || !changed {
		return err
	}
	var resource sinks.Resource
	cfg, err := withValues(u.vertex.Config, w.inputs, values)
	if err == nil {
		g := u.engine.inForce.Load()
		resource, err = u.vertex.builtOf(cfg, g.options, g.Managed)
	}
	if err == nil {
		u.engine.redeclare(u, resource, false) // before the old one ends, as in a swap
	}
	if c, ok := old.(sinks.Closer); ok {
		if err := c.Close(); err != nil {
			u.engine.opts.Log.Warn("not closed in order", "res", u.vertex.String(), "error", err)
		}
	}
	if err != nil {
		return err
	}
	u.engine.values.Lock()
	s.inbox.built = resource
	u.engine.values.Unlock()
	return nil
}

// collect returns the values that u is sent, by input, and whether its resource has to be
// built of them. The error is a *WaitingError if one is missing.
func (u *unit) collect(w *wiring, s *special) (values []any, changed bool, err error) {
	u.engine.values.Lock()
	defer u.engine.values.Unlock()
	values = make([]any, len(w.inputs))
	for i, in := range w.inputs {
		value, ok := any(nil), false
		if from := in.from.special.Load(); from != nil {
			value, ok = from.inbox.sent[in.Output]
		}
		if !ok {
			return nil, false, &WaitingError{By: in.from.vertex, Output: in.Output}
		}
		values[i] = value
	}
	if s.inbox.built != nil && reflect.DeepEqual(values, s.inbox.got) {
		return values, false, nil
	}
	s.inbox.got, s.inbox.built = values, nil
	return values, true, nil
}

// publish keeps what a success has sent, and returns the receivers for which it is new.
func (u *unit) publish(w *wiring, values map[string]any) []operators.Sink {
	s := u.extra()
	u.engine.values.Lock()
	defer u.engine.values.Unlock()
	for output, value := range values {
		if !w.outputs[output] {
			continue
		}
		if s.inbox.sent == nil {
			s.inbox.sent = map[string]any{}
		}
		s.inbox.sent[output] = value
	}
	var news []operators.Sink
	for _, r := range w.receivers {
		if s.isNewTo(r, u) {
			news = append(news, r)
		}
	}
	return news
}

// isNewTo says that r, which u sends to, has not used the newest values.
func (s *special) isNewTo(r, u *unit) bool {
	its, way := r.special.Load(), r.wiring.Load()
	if its == nil || way == nil {
		return false
	}
	for i, in := range way.inputs {
		if in.from != u {
			continue
		}
		value, ok := s.inbox.sent[in.Output]
		if ok && (i >= len(its.inbox.got) || !reflect.DeepEqual(its.inbox.got[i], value)) {
			return true
		}
	}
	return false
}

// withValues is a copy of cfg with values, one for each input.
func withValues(cfg sinks.Config, inputs []input, values []any) (sinks.Config, error) {
	cfg = params.Clone(cfg)
	for i, in := range inputs {
		if err := in.put(cfg, in.from.vertex, values[i]); err != nil {
			return nil, err
		}
	}
	return cfg, nil
}

// put sets the parameter of cfg that from sends a value to.
func (l Link) put(cfg sinks.Config, from *Vertex, value any) error {
	if err := params.SetValue(cfg, l.Param, l.Key, value); err != nil {
		return fmt.Errorf("%s, which %s sends as %s: %w", l.Param, from, l.Output, err)
	}
	return nil
}

// builtOf is the resource of v with a Config that holds what v is sent. Managed lists what
// all resources of the graph manage.
func (v *Vertex) builtOf(cfg sinks.Config, opts sinks.Options, managed func() []string) (sinks.Resource, error) {
	opts.Ref, opts.Sends = v.String(), v.sends
	r, err := cfg.Build(v.Name, opts)
	if err != nil {
		return nil, err
	}
	if aware, ok := r.(sinks.SiblingAware); ok {
		aware.Siblings(managed())
	}
	return r, nil
}

// hide takes secrets that were received out of what is told about an attempt.
func (a *attempt) hide(outcome *sinks.Outcome, err error) error {
	v := a.u.vertex
	if !v.tainted {
		return err
	}
	outcome.Changes = v.conceal(outcome.Changes)
	if err == nil || waitingFor(err) != nil {
		return err
	}
	var secrets []string
	if a.special != nil {
		a.u.engine.values.RLock()
		for i, in := range a.wiring.inputs {
			if in.Secret && i < len(a.special.inbox.got) {
				secrets = append(secrets, fmt.Sprint(a.special.inbox.got[i]))
			}
		}
		a.u.engine.values.RUnlock()
	}
	return concealed(err, secrets)
}

// conceal marks as secret the changes of a resource that is secret, or has received
// something secret; then not those of parameters that the graph gives itself: the content
// of a file may be made of the secret, its mode is not.
func (v *Vertex) conceal(changes []sinks.Change) []sinks.Change {
	changes = slices.Clone(changes)
	for i, c := range changes {
		changes[i].Secret = c.Secret || (v.Meta.Secret || !v.gives(c.Field)) && !harmless(v.Config, c)
	}
	return changes
}

// gives says that the value of a parameter stands in the graph.
func (v *Vertex) gives(param string) bool {
	for _, r := range v.receives {
		if r.param == param {
			return false
		}
	}
	value, ok := params.Get(v.Config, param)
	return ok && value != nil && !reflect.ValueOf(value).IsZero()
}

// harmless says that a change only goes from one word that the kind knows to another.
func harmless(cfg sinks.Config, c sinks.Change) bool {
	for _, f := range params.FieldsOf(cfg) {
		if f.Name == c.Field {
			return slices.Contains(f.OneOf, c.From) && slices.Contains(f.OneOf, c.To)
		}
	}
	return false
}

// concealedError is an error without the secrets that its text held.
type concealedError struct {
	err  error
	text string
}

// Error implements error.
func (e *concealedError) Error() string { return e.text }

// Is makes errors.Is look at the error itself, of which nobody gets hold.
func (e *concealedError) Is(target error) bool { return errors.Is(e.err, target) }

// concealed returns err without secrets in its text. Very short ones can't be told from
// other text: then nothing is left of it.
func concealed(err error, secrets []string) error {
	const shortest = 4
	text := err.Error()
	for _, s := range secrets {
		for _, part := range append(strings.Split(s, "\n"), s) {
			switch {
			case part == "" || !strings.Contains(text, part):
			case len(part) < shortest:
				return &concealedError{err, "(not shown, since it may hold a secret)"}
			default:
				text = strings.ReplaceAll(text, part, "(secret)")
			}
		}
	}
	if text == err.Error() {
		return err
	}
	return &concealedError{err, text}
}
