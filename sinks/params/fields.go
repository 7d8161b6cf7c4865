package params

import (
	"fmt"
	"reflect"
	"strconv"
	"time"

	"github.com/mgmtproject/mgmt/sinks"
)

// Field describes one parameter: for reference pages, completion and schemas.
type Field struct {
	// Name is the parameter in a graph file, Go the field of the Config.
	Name, Go string

	// Type is the type for people: "string", "true or false", "whole number", "number",
	// "duration", "file mode", "list of strings", "mapping of strings".
	Type string

	// Default is the value that stands if the parameter is not given, as a graph file
	// would have it; empty if there is none.
	Default string

	// Unit is what a bare number counts: "ms", "s". Empty if there is no such thing.
	Unit string

	// OneOf lists the values allowed; empty if there is no such list.
	OneOf []string

	// Aliases are older names with the same meaning.
	Aliases []string

	// Legacy says that the parameter is accepted for old files only.
	Legacy bool

	// Secret says that the value is never printed.
	Secret bool

	// Shown says that the value is shown by nature, so that it can't be a secret.
	Shown bool
}

// Fields describes the parameters of a kind, in the order of its Config.
func Fields(spec sinks.Spec) []Field { return FieldsOf(spec.New()) }

// FieldsOf describes the parameters of cfg, a pointer to a struct that holds the
// defaults.
func FieldsOf(cfg any) []Field {
	v := reflect.ValueOf(cfg).Elem()
	t := tableOf(v.Type())
	fields := make([]Field, len(t.params))
	for i, p := range t.params {
		f := v.FieldByIndex(p.index)
		fields[i] = Field{
			Name: p.name, Go: p.goName, Type: p.typeName(f.Type()), Default: defaultText(f), Unit: p.unitTag,
			OneOf: append([]string(nil), p.oneof...), Aliases: append([]string(nil), p.aliases...), Legacy: p.legacy, Secret: p.secret, Shown: p.shown,
		}
	}
	return fields
}

func (p *param) typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return p.typeName(t.Elem())
	case reflect.Slice:
		return "list of " + plural(t.Elem())
	case reflect.Map:
		return "mapping of " + plural(t.Elem())
	case reflect.String:
		if p.octal {
			return "file mode"
		}
		return "string"
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "number"
	}
	if t == durationType {
		return "duration"
	}
	return "whole number"
}

// defaultText is v as a graph file would have it.
func defaultText(v reflect.Value) string {
	if v.Type() == durationType {
		return time.Duration(v.Int()).String()
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		if v.IsNil() {
			return ""
		}
		if v.Kind() == reflect.Pointer {
			return defaultText(v.Elem())
		}
		return fmt.Sprint(v.Interface())
	case reflect.String:
		if v.String() == "" {
			return `""`
		}
		return v.String()
	case reflect.Float32, reflect.Float64:
		if s := strconv.FormatFloat(v.Float(), 'g', -1, 64); s != "+Inf" {
			return s
		}
		return ".inf"
	}
	return fmt.Sprint(v.Interface())
}
