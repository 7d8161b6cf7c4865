package params

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"

	"gopkg.in/yaml.v3"

	"github.com/mgmtproject/mgmt/sinks"
)

// Mismatch is the error of Accepts and SetValue for a value of a type that the parameter
// can't have.
type Mismatch struct {
	// Sent and Wanted are the types for people: "a whole number", "a list of strings".
	Sent, Wanted string
}

// Error implements error.
func (m *Mismatch) Error() string { return "expected " + m.Wanted + ", found " + m.Sent }

// NotAMap is the error of Accepts and SetValue for a key of a parameter that has none.
type NotAMap struct {
	// Wanted is the type of the parameter: "a string".
	Wanted string
}

// Error implements error.
func (n *NotAMap) Error() string { return "expected no key, since it is " + n.Wanted }

// Accepts returns nil if a parameter of cfg can receive a value of a type; with a key, if
// the parameter is a map, and that key of it can. A value can be received
//
//   - by a parameter of its own type,
//   - as a string, if it is a string, number or bool: as a graph file would have it,
//   - as a number with a fraction, if it is a whole one,
//   - as a list of strings, if it is a string: a list of one,
//   - as a duration, if it is a whole number and the parameter has a unit.
//
// Otherwise the error is a Problem for a parameter that does not exist, a *NotAMap or a
// *Mismatch.
func Accepts(cfg sinks.Config, param, key string, t sinks.Type) error {
	v := reflect.ValueOf(cfg).Elem()
	p, err := tableOf(v.Type()).find(param)
	if err != nil {
		return err
	}
	return p.accepts(v.FieldByIndex(p.index).Type(), key, t)
}

// find returns a parameter by any of its names.
func (t *table) find(name string) (*param, error) {
	if i, ok := t.byName[name]; ok {
		return &t.params[i], nil
	}
	return nil, t.unknown(&yaml.Node{Value: name}, nil)
}

func (p *param) accepts(t reflect.Type, key string, sent sinks.Type) error {
	field := t
	if key != "" {
		if t.Kind() != reflect.Map {
			return &NotAMap{a(p.typeName(t))}
		}
		t = t.Elem()
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	var ok bool
	switch t.Kind() {
	case reflect.Slice:
		ok = t.Elem().Kind() == reflect.String && (sent == sinks.TypeStrings || sent == sinks.TypeString)
	case reflect.Map:
		ok = t.Elem().Kind() == reflect.String && sent == sinks.TypeMap
	case reflect.String:
		ok = sent == sinks.TypeString || sent == sinks.TypeInt || sent == sinks.TypeFloat || sent == sinks.TypeBool
	case reflect.Bool:
		ok = sent == sinks.TypeBool
	case reflect.Float32, reflect.Float64:
		ok = sent == sinks.TypeFloat || sent == sinks.TypeInt
	default:
		ok = sent == sinks.TypeInt && (t != durationType || p.unit > 0)
	}
	switch {
	case ok:
		return nil
	case key != "":
		return &Mismatch{TypeName(sent), a(p.typeName(t))}
	}
	return &Mismatch{TypeName(sent), a(p.typeName(field))}
}

// TypeName is a type of an output for people: "a whole number".
func TypeName(t sinks.Type) string {
	switch t {
	case sinks.TypeString:
		return "a string"
	case sinks.TypeInt:
		return "a whole number"
	case sinks.TypeFloat:
		return "a number"
	case sinks.TypeBool:
		return "true or false"
	case sinks.TypeStrings:
		return "a list of strings"
	case sinks.TypeMap:
		return "a mapping of strings"
	}
	return fmt.Sprintf("of the unknown type %q", string(t))
}

// a puts the article before the name of a type.
func a(name string) string {
	if name == "true or false" {
		return name
	}
	return "a " + name
}

// SetValue sets a parameter of cfg, or a key of one that is a map, to a value that was
// sent: a string, int64, float64, bool, []string or map[string]string. It converts as
// Accepts describes, and checks what the tags demand. What cfg shares with a clone is not
// changed. The error is that of Accepts, or a *sinks.ParamError, which shows the value.
func SetValue(cfg sinks.Config, param, key string, value any) error {
	t, ok := typeOf(value)
	if !ok {
		return fmt.Errorf("the sender has sent a %T, which is no type of an output", value)
	}
	if err := Accepts(cfg, param, key, t); err != nil {
		return err
	}
	v := reflect.ValueOf(cfg).Elem()
	p, err := tableOf(v.Type()).find(param)
	if err != nil {
		return err
	}
	return p.receive(v.FieldByIndex(p.index), key, value)
}

// receive sets a field to a value that it accepts.
func (p *param) receive(field reflect.Value, key string, value any) error {
	n := p.nodeOf(value)
	var bad *failure
	if key == "" {
		bad = p.set(field, n, nil)
	} else {
		elem := reflect.New(field.Type().Elem()).Elem()
		bad = p.setScalar(elem, n, false)
		m := reflect.MakeMapWithSize(field.Type(), field.Len()+1)
		for at := field.MapRange(); at.Next(); {
			m.SetMapIndex(at.Key(), at.Value())
		}
		m.SetMapIndex(reflect.ValueOf(key).Convert(field.Type().Key()), elem)
		if bad == nil {
			field.Set(m)
		}
	}
	if bad == nil {
		return nil
	}
	if bad.hint != "" {
		bad.message += "; " + bad.hint
	}
	return &sinks.ParamError{Param: p.name, Err: errors.New(bad.message)}
}

func typeOf(value any) (sinks.Type, bool) {
	switch value.(type) {
	case string:
		return sinks.TypeString, true
	case int64:
		return sinks.TypeInt, true
	case float64:
		return sinks.TypeFloat, true
	case bool:
		return sinks.TypeBool, true
	case []string:
		return sinks.TypeStrings, true
	case map[string]string:
		return sinks.TypeMap, true
	}
	return "", false
}

// HasType reports whether a value is of the Go type that t stands for.
func HasType(value any, t sinks.Type) bool {
	got, ok := typeOf(value)
	return ok && got == t
}

// nodeOf is a value as a graph file would have it for p.
func (p *param) nodeOf(value any) *yaml.Node {
	text := func(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: strTag, Value: s} }
	switch v := value.(type) {
	case int64:
		if p.octal {
			return text(fmt.Sprintf("%04o", v))
		}
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: intTag, Value: strconv.FormatInt(v, 10)}
	case float64:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: floatTag, Value: floatText(v)}
	case bool:
		// A bool in quotes stands for a string, and does for a bool, too.
		return text(strconv.FormatBool(v))
	case []string:
		n := &yaml.Node{Kind: yaml.SequenceNode, Content: make([]*yaml.Node, len(v))}
		for i, s := range v {
			n.Content[i] = text(s)
		}
		return n
	case map[string]string:
		n := &yaml.Node{Kind: yaml.MappingNode}
		for _, k := range slices.Sorted(maps.Keys(v)) {
			n.Content = append(n.Content, text(k), text(v[k]))
		}
		return n
	}
	s, _ := value.(string)
	return text(s)
}

// floatText is a number as people write it in a graph file.
func floatText(f float64) string {
	switch size := math.Abs(f); {
	case math.IsNaN(f):
		return ".nan"
	case math.IsInf(f, 1):
		return ".inf"
	case math.IsInf(f, -1):
		return "-.inf"
	case size == 0 || size >= 1e-6 && size < 1e21:
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// IsSecret reports whether a parameter of cfg is never printed.
func IsSecret(cfg sinks.Config, param string) bool {
	p, err := tableOf(reflect.TypeOf(cfg).Elem()).find(param)
	return err == nil && p.secret
}

// HoldsSecret reports whether any parameter of cfg that is never printed is set.
func HoldsSecret(cfg sinks.Config) bool {
	v := reflect.ValueOf(cfg).Elem()
	for _, p := range tableOf(v.Type()).params {
		if p.secret && !v.FieldByIndex(p.index).IsZero() {
			return true
		}
	}
	return false
}

// IsShown reports whether a parameter of cfg is shown by nature.
func IsShown(cfg sinks.Config, param string) bool {
	p, err := tableOf(reflect.TypeOf(cfg).Elem()).find(param)
	return err == nil && p.shown
}

// Pretend sets a parameter of cfg, or a key of one that is a map, to a value that it might
// well receive: a string as it is given, or what its tags allow, and numbers that are
// the larger and words and bools that are others the more often it was tried. Like
// SetValue it leaves alone what cfg shares with a clone.
func Pretend(cfg sinks.Config, param, key, s string, tried int) error {
	v := reflect.ValueOf(cfg).Elem()
	p, err := tableOf(v.Type()).find(param)
	if err != nil {
		return err
	}
	field := v.FieldByIndex(p.index)
	switch {
	case len(p.oneof) > 0:
		s = p.oneof[tried%len(p.oneof)]
	case p.octal:
		s = "0644"
	}
	t := field.Type()
	if key != "" || t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		if key != "" && t.Kind() != reflect.Map {
			return &NotAMap{a(p.typeName(t))}
		}
		t = t.Elem()
	}
	number := int64(1) << (5 * min(tried, 3))
	switch {
	case t == durationType:
		return p.receive(field, key, fmt.Sprintf("%ds", number))
	case t.Kind() == reflect.Map:
		if t.Elem().Kind() != reflect.String {
			return nil
		}
		return p.receive(field, key, map[string]string{"received": s})
	case t.Kind() == reflect.Bool:
		return p.receive(field, key, tried%2 == 1)
	case t.Kind() == reflect.String:
		return p.receive(field, key, s)
	}
	return p.receive(field, key, number)
}
