package params

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/mgmtproject/mgmt/sinks"
)

// Marshal returns the parameters of cfg that differ from those of defaults, a pointer to a
// struct of the same type, as a graph file would have them: a YAML mapping.
func Marshal(cfg, defaults any) (string, error) {
	v, d := reflect.ValueOf(cfg).Elem(), reflect.ValueOf(defaults).Elem()
	values := map[string]any{}
	for _, p := range tableOf(v.Type()).params {
		f := v.FieldByIndex(p.index)
		if reflect.DeepEqual(f.Interface(), d.FieldByIndex(p.index).Interface()) {
			continue
		}
		if f.Kind() == reflect.Pointer {
			f = f.Elem()
		}
		value := f.Interface()
		if t, ok := value.(time.Duration); ok {
			value = t.String()
		}
		values[p.name] = value
	}
	text, err := yaml.Marshal(values)
	return string(text), err
}

// Zero returns a Config of the kind of cfg in which nothing is set, not even defaults.
func Zero(cfg sinks.Config) sinks.Config {
	return reflect.New(reflect.TypeOf(cfg).Elem()).Interface().(sinks.Config)
}

// Unmarshal sets parameters of cfg from what Marshal has returned.
func Unmarshal(cfg any, text string) error {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		return fmt.Errorf("parameters that were saved: %w", err)
	}
	if len(doc.Content) == 0 {
		return nil
	}
	var wrong []string
	for _, p := range Decode(doc.Content[0], cfg) {
		wrong = append(wrong, p.Error())
	}
	if len(wrong) > 0 {
		return fmt.Errorf("parameters that were saved: %s", strings.Join(wrong, "; "))
	}
	return nil
}
