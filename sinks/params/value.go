package params

import (
	"encoding/base64"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// failure says why a value does not suit its parameter.
type failure struct {
	at            *yaml.Node
	message, hint string
}

func refuse(at *yaml.Node, hint, format string, args ...any) *failure {
	return &failure{at: at, message: fmt.Sprintf(format, args...), hint: hint}
}

// set decodes n into v, the field of p. Null leaves it alone.
func (p *param) set(v reflect.Value, n *yaml.Node, except Except) *failure {
	n = Resolve(n)
	if n.Kind == yaml.ScalarNode && n.Tag == nullTag {
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		elem := reflect.New(v.Type().Elem())
		if bad := p.setScalar(elem.Elem(), n, false); bad != nil {
			return bad
		}
		v.Set(elem)
		return nil
	case reflect.Slice:
		return p.setList(v, n)
	case reflect.Map:
		return p.setMap(v, n, except)
	}
	return p.setScalar(v, n, v.IsZero())
}

func (p *param) setList(v reflect.Value, n *yaml.Node) *failure {
	items := []*yaml.Node{n}
	switch n.Kind {
	case yaml.SequenceNode:
		items = n.Content
	case yaml.MappingNode:
		return refuse(n, "begin each item with \"- \"", "expected a list of %s, found %s", plural(v.Type().Elem()), Describe(n))
	}
	list := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		if bad := p.setScalar(list.Index(i), Resolve(item), false); bad != nil {
			if hasKey(item, "from") {
				bad.hint = "only a whole list can be received"
			}
			return bad
		}
	}
	v.Set(list)
	return nil
}

func (p *param) setMap(v reflect.Value, n *yaml.Node, except Except) *failure {
	if n.Kind != yaml.MappingNode {
		return refuse(n, "write each as \"key: value\"", "expected a mapping from names to %s, found %s", plural(v.Type().Elem()), Describe(n))
	}
	m := reflect.MakeMapWithSize(v.Type(), len(n.Content)/2)
	var bad *failure
	wrong := Each(n, func(key, value *yaml.Node, _ bool) {
		if except != nil && Resolve(value).Kind == yaml.MappingNode && except(p.name, key.Value, false, value) {
			return
		}
		elem := reflect.New(v.Type().Elem()).Elem()
		if f := p.setScalar(elem, Resolve(value), false); f != nil {
			if bad == nil {
				f.message = key.Value + ": " + f.message
				bad = f
			}
			return
		}
		m.SetMapIndex(reflect.ValueOf(key.Value).Convert(v.Type().Key()), elem)
	})
	if len(wrong) > 0 && bad == nil {
		w := wrong[0]
		bad = &failure{at: &yaml.Node{Line: w.Line, Column: w.Column}, message: w.Message, hint: w.Hint}
	}
	if bad == nil {
		v.Set(m)
	}
	return bad
}

// setScalar decodes one value. empty says that the default is the empty string, which is
// then always allowed.
func (p *param) setScalar(v reflect.Value, n *yaml.Node, empty bool) *failure {
	if v.Type() == durationType {
		return p.setDuration(v, n)
	}
	switch k := v.Kind(); k {
	case reflect.String:
		return p.setString(v, n, empty)
	case reflect.Bool:
		return setBool(v, n)
	case reflect.Float32, reflect.Float64:
		return setFloat(v, n)
	default:
		return setInt(v, n)
	}
}

func (p *param) setString(v reflect.Value, n *yaml.Node, empty bool) *failure {
	s := n.Value
	switch {
	case n.Kind != yaml.ScalarNode:
		hint := ""
		if n.Kind == yaml.MappingNode && n.Style&yaml.FlowStyle != 0 {
			hint = "put text that begins with { in quotes"
		}
		return refuse(n, hint, "expected a string, found %s", Describe(n))
	case n.Tag == boolTag, n.Tag == nullTag:
		hint := fmt.Sprintf("put it in quotes: %q", s)
		if s == "" {
			hint = `write "" for an empty string`
		}
		return refuse(n, hint, "expected a string, found %s", Describe(n))
	case n.Tag == binaryTag:
		b, err := base64.StdEncoding.DecodeString(strings.Map(dropSpace, s))
		if err != nil {
			return refuse(n, "", "expected base64 after !!binary, found %q", short(s))
		}
		s = string(b)
	case !plainTag(n.Tag):
		return refuse(n, "put text that begins with ! in quotes", "expected a string, found the tag %s", short(n.Tag))
	}
	if len(p.oneof) > 0 && !slices.Contains(p.oneof, s) && (s != "" || !empty) {
		hint := ""
		if near, ok := Nearest(s, p.oneof); ok {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		return refuse(n, hint, "expected %s, found %q", orList(p.oneof), short(s))
	}
	v.SetString(s)
	return nil
}

func setBool(v reflect.Value, n *yaml.Node) *failure {
	if n.Kind == yaml.ScalarNode {
		// yes, on, no and off are the other spellings of YAML 1.1, unless in quotes.
		if n.Tag == boolTag || n.Tag == strTag && n.Style == 0 {
			switch strings.ToLower(n.Value) {
			case "true", "yes", "on", "y":
				v.SetBool(true)
				return nil
			case "false", "no", "off", "n":
				v.SetBool(false)
				return nil
			}
		}
	}
	hint := ""
	if text := strings.ToLower(n.Value); n.Tag == strTag && (text == "true" || text == "false") {
		hint = "remove the quotes"
	}
	return refuse(n, hint, "expected true or false, found %s", Describe(n))
}

func setInt(v reflect.Value, n *yaml.Node) *failure {
	if n.Kind != yaml.ScalarNode || n.Tag != intTag {
		hint := ""
		if _, err := strconv.ParseInt(n.Value, 0, 64); err == nil && n.Tag == strTag {
			hint = "remove the quotes"
		}
		return refuse(n, hint, "expected a whole number, found %s", Describe(n))
	}
	text := strings.ReplaceAll(n.Value, "_", "")
	if v.CanUint() {
		u, err := strconv.ParseUint(text, 0, 64)
		if err != nil || v.OverflowUint(u) {
			return refuse(n, "", "expected a whole number from 0 to %d, found %s", uint64(math.MaxUint64)>>(64-v.Type().Bits()), n.Value)
		}
		v.SetUint(u)
		return nil
	}
	i, err := strconv.ParseInt(text, 0, 64)
	if err != nil || v.OverflowInt(i) {
		most := int64(math.MaxInt64) >> (64 - v.Type().Bits())
		return refuse(n, "", "expected a whole number from %d to %d, found %s", -most-1, most, n.Value)
	}
	v.SetInt(i)
	return nil
}

// number reads an int or float.
func number(n *yaml.Node) (float64, bool) {
	if n.Kind != yaml.ScalarNode {
		return 0, false
	}
	text := strings.ReplaceAll(n.Value, "_", "")
	switch n.Tag {
	case intTag:
		if i, err := strconv.ParseInt(text, 0, 64); err == nil {
			return float64(i), true
		}
		u, err := strconv.ParseUint(text, 0, 64)
		return float64(u), err == nil
	case floatTag:
		switch strings.ToLower(text) {
		case ".inf", "+.inf":
			return math.Inf(1), true
		case "-.inf":
			return math.Inf(-1), true
		case ".nan":
			return math.NaN(), true
		}
		f, err := strconv.ParseFloat(text, 64)
		return f, err == nil
	}
	return 0, false
}

func setFloat(v reflect.Value, n *yaml.Node) *failure {
	f, ok := number(n)
	if !ok {
		hint := ""
		if _, err := strconv.ParseFloat(n.Value, 64); err == nil && n.Tag == strTag {
			hint = "remove the quotes"
			if strings.Contains(strings.ToLower(n.Value), "inf") {
				hint = "write .inf for infinity"
			}
		}
		return refuse(n, hint, "expected a number, found %s", Describe(n))
	}
	v.SetFloat(f)
	return nil
}

func (p *param) setDuration(v reflect.Value, n *yaml.Node) *failure {
	f, ok := number(n)
	if !ok && n.Kind == yaml.ScalarNode && n.Tag == strTag {
		text := strings.TrimSpace(n.Value)
		d, err := time.ParseDuration(text)
		if err == nil {
			v.SetInt(int64(d))
			return nil
		}
		f, err = strconv.ParseFloat(text, 64)
		ok = err == nil
	}
	d := f * float64(max(p.unit, 1))
	switch {
	case !ok:
		return refuse(n, "", "expected %s, found %s", p.wantDuration(), Describe(n))
	case p.unit == 0 && f != 0:
		return refuse(n, "add a unit: ns, us, ms, s, m or h", "expected %s, found %s", p.wantDuration(), Describe(n))
	case math.IsNaN(d) || math.Abs(d) >= math.MaxInt64:
		return refuse(n, "", "expected %s, at most 292 years, found %s", p.wantDuration(), Describe(n))
	}
	v.SetInt(int64(math.Round(d)))
	return nil
}

// wantDuration says what a duration looks like. Without a unit a bare number has no
// meaning, except 0.
func (p *param) wantDuration() string {
	if p.unit == 0 {
		return "a duration such as 250ms, 5s or 2m"
	}
	return "a number (in " + p.unitTag + ") or a duration such as 250ms, 5s or 2m"
}

// hasKey reports whether n is a mapping with that key.
func hasKey(n *yaml.Node, name string) bool {
	found := false
	if Resolve(n).Kind == yaml.MappingNode {
		Each(n, func(key, _ *yaml.Node, _ bool) { found = found || key.Value == name })
	}
	return found
}

func dropSpace(r rune) rune {
	if r == ' ' || r == '\n' || r == '\t' || r == '\r' {
		return -1
	}
	return r
}

// plural names the values of a list or map.
func plural(t reflect.Type) string {
	if t == durationType {
		return "durations"
	}
	switch t.Kind() {
	case reflect.String:
		return "strings"
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "numbers"
	default:
		return "whole numbers"
	}
}

// orList is "a, b or c", each in quotes.
func orList(words []string) string {
	var b strings.Builder
	for i, w := range words {
		switch {
		case i > 0 && i == len(words)-1:
			b.WriteString(" or ")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(strconv.Quote(w))
	}
	return b.String()
}
