// Package params turns the parameters of a resource, as a graph file has them, into the
// fields of its Config, and describes those fields to whoever documents them. It exists
// so that a kind is written once, as a struct, and never decodes anything itself.
//
// An exported field with a param tag is a parameter; what its Config holds before it is
// decoded is its default. The tags:
//
//	param:"content"         the name in the graph file
//	unit:"s"                unit of a bare number for a time.Duration: ns, us, ms, s, m or h
//	oneof:"exists absent"   the values allowed; the empty one too if it is the default
//	mode:"octal"            a string that is a file mode: 0644 stays as it is written
//	secret:"true"           never printed
//	alias:"old_name"        older names with the same meaning, separated by spaces
//	shown:"true"            shown by nature, such as a message: it receives no secret
//	legacy:"true"           accepted for old files, left out of the short reference
//
// A parameter is a string, bool, number or time.Duration, a named type of these, a
// pointer to one (nil stands for "not given"), a list of them (a lone value is a list of
// one), or a map from strings to them. Null means "not given" everywhere.
package params

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"gopkg.in/yaml.v3"

	"github.com/mgmtproject/mgmt/sinks"
)

// Problem is one thing that is wrong with the parameters of a resource.
type Problem struct {
	// Line and Column say where, from 1; both are 0 for values that come from no file.
	Line, Column int

	// Param is the parameter as the file has it; empty if the whole mapping is wrong.
	Param string

	// Unknown says that there is no parameter of that name.
	Unknown bool

	// Message says what was found and what is expected. It names the parameter.
	Message string

	// Hint says what to do, or gives the nearest known name; it may be empty.
	Hint string
}

// Error is the message and the hint, without the place.
func (p Problem) Error() string {
	if p.Hint == "" {
		return p.Message
	}
	return p.Message + "; " + p.Hint
}

// Decode sets the fields of cfg, a pointer to a struct, from a mapping. Keys that are
// listed in others belong to the caller: they are left alone, and offered when a name is
// misspelt. It returns everything that is wrong; fields of wrong parameters keep their
// defaults. The nodes are as yaml.v3 parses them. A cfg with a field that can't be a
// parameter is a fault of the program, and Decode panics.
func Decode(node *yaml.Node, cfg any, others ...string) []Problem {
	return DecodeExcept(node, cfg, nil, others...)
}

// Except is asked about each mapping that stands where a parameter is given, or where a
// key of one that is a map is: the key is empty for the parameter itself. Fits says that
// the parameter is a map, so that the mapping can be its value. If it returns true, the
// value comes from elsewhere, and the field is left alone.
type Except func(param, key string, fits bool, value *yaml.Node) bool

// DecodeExcept is Decode but for what except, if it is not nil, takes upon itself.
func DecodeExcept(node *yaml.Node, cfg any, except Except, others ...string) []Problem {
	v := reflect.ValueOf(cfg).Elem()
	t := tableOf(v.Type())
	var problems []Problem
	keys := make([]*yaml.Node, len(t.params)) // by which each parameter was given
	wrong := Each(node, func(key, value *yaml.Node, merged bool) {
		i, ok := t.byName[key.Value]
		if !ok {
			if !slices.Contains(others, key.Value) {
				problems = append(problems, t.unknown(key, others))
			}
			return
		}
		p := &t.params[i]
		if before := keys[i]; before != nil {
			// Each has already seen to keys that are equal: this is another name of the
			// same parameter. One that is merged in yields.
			if !merged {
				problems = append(problems, problem(key, key.Value,
					fmt.Sprintf("%s is another name of %s, which stands in line %d", key.Value, before.Value, before.Line), "keep one of them"))
			}
			return
		}
		keys[i] = key
		field := v.FieldByIndex(p.index)
		if except != nil && Resolve(value).Kind == yaml.MappingNode && except(p.name, "", field.Kind() == reflect.Map, value) {
			return
		}
		if bad := p.set(field, value, except); bad != nil {
			problems = append(problems, problem(bad.at, key.Value, key.Value+": "+bad.message, bad.hint))
		}
	})
	return append(wrong, problems...)
}

func (t *table) unknown(key *yaml.Node, others []string) Problem {
	p := problem(key, key.Value, fmt.Sprintf("unknown parameter %q", short(key.Value)), "")
	p.Unknown = true
	names := append(slices.Clone(t.names), others...)
	if near, ok := Nearest(key.Value, names); ok {
		p.Hint = fmt.Sprintf("did you mean %q?", near)
	} else if len(names) > 0 {
		p.Hint = "expected " + orList(names)
	}
	return p
}

func problem(at *yaml.Node, param, message, hint string) Problem {
	return Problem{Line: at.Line, Column: at.Column, Param: param, Message: message, Hint: hint}
}

// DecodeMap sets the fields of cfg from Go values, by the same rules as Decode: strings,
// bools, numbers, time.Durations, and slices and maps of them. Whole numbers for a file
// mode are taken as such: 0o644 is "0644". The error has a line for each problem.
func DecodeMap(cfg sinks.Config, values map[string]any) error {
	t := tableOf(reflect.TypeOf(cfg).Elem())
	values = maps.Clone(values)
	for name, value := range values {
		if i, ok := t.byName[name]; ok && t.params[i].octal && reflect.ValueOf(value).CanInt() {
			values[name] = fmt.Sprintf("%04o", value)
		}
	}
	var node yaml.Node
	if err := node.Encode(values); err != nil {
		return fmt.Errorf("values that a graph file can't hold: %w", err)
	}
	var errs []error
	for _, p := range Decode(&node, cfg) {
		errs = append(errs, p)
	}
	return errors.Join(errs...)
}

// Text decodes the value of one key that stands for a string, by the rules of Decode.
// Null is the empty string.
func Text(key, value *yaml.Node) (string, []Problem) {
	var s string
	if bad := new(param).set(reflect.ValueOf(&s).Elem(), value, nil); bad != nil {
		return "", []Problem{problem(bad.at, key.Value, key.Value+": "+bad.message, bad.hint)}
	}
	return s, nil
}

// Locate finds where a mapping gives a parameter of cfg, under any of its names. The
// nodes are nil if it does not.
func Locate(node *yaml.Node, cfg any, param string) (key, value *yaml.Node) {
	t := tableOf(reflect.TypeOf(cfg).Elem())
	want, known := t.byName[param]
	Each(node, func(k, v *yaml.Node, _ bool) {
		i, ok := t.byName[k.Value]
		if key == nil && (k.Value == param || known && ok && i == want) {
			key, value = k, v
		}
	})
	return key, value
}

// Get returns the value of a parameter of cfg; for a pointer what it points to, or nil.
func Get(cfg sinks.Config, param string) (value any, ok bool) {
	v := reflect.ValueOf(cfg).Elem()
	t := tableOf(v.Type())
	i, ok := t.byName[param]
	if !ok {
		return nil, false
	}
	v = v.FieldByIndex(t.params[i].index)
	if v.Kind() != reflect.Pointer {
		return v.Interface(), true
	}
	if v.IsNil() {
		return nil, true
	}
	return v.Elem().Interface(), true
}

// NameOf returns the name of a parameter of cfg that is known by an older one, and any
// other name itself.
func NameOf(cfg sinks.Config, name string) string {
	if p, err := tableOf(reflect.TypeOf(cfg).Elem()).find(name); err == nil {
		return p.name
	}
	return name
}

// Clone returns a Config with the same fields as cfg, which share what they point to.
func Clone(cfg sinks.Config) sinks.Config {
	v := reflect.New(reflect.TypeOf(cfg).Elem())
	v.Elem().Set(reflect.ValueOf(cfg).Elem())
	return v.Interface().(sinks.Config)
}

// Equal reports whether two Configs stand for the same desired state: they are of the
// same kind, and deeply equal.
func Equal(a, b sinks.Config) bool { return reflect.DeepEqual(a, b) }
