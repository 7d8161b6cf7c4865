package params

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"
)

// table is what the tags of one struct type say.
type table struct {
	params []param
	byName map[string]int // the old names too
	names  []string       // to be offered when a name is misspelt
}

// param is one parameter: its tags, read.
type param struct {
	name    string
	goName  string
	index   []int
	aliases []string
	oneof   []string
	unit    time.Duration // 0: a bare number has no meaning
	unitTag string
	octal   bool
	secret  bool
	shown   bool
	legacy  bool
}

var durationType = reflect.TypeFor[time.Duration]()

var units = map[string]time.Duration{
	"ns": time.Nanosecond, "us": time.Microsecond, "ms": time.Millisecond,
	"s": time.Second, "m": time.Minute, "h": time.Hour,
}

// tables caches one *table for each reflect.Type.
var tables sync.Map

func tableOf(t reflect.Type) *table {
	if cached, ok := tables.Load(t); ok {
		return cached.(*table)
	}
	made, _ := tables.LoadOrStore(t, newTable(t))
	return made.(*table)
}

// newTable panics for tags that make no sense: they are a fault of the program, and
// every kind is decoded in its tests.
func newTable(t reflect.Type) *table {
	tab := &table{byName: map[string]int{}}
	for _, f := range reflect.VisibleFields(t) {
		name, ok := f.Tag.Lookup("param")
		if !ok {
			continue
		}
		fault := func(why string) { panic(fmt.Sprintf("params: field %s of %s: %s", f.Name, t, why)) }
		unit := f.Tag.Get("unit")
		p := param{
			name: name, goName: f.Name, index: f.Index,
			aliases: strings.Fields(f.Tag.Get("alias")),
			oneof:   strings.Fields(f.Tag.Get("oneof")),
			unit:    units[unit], unitTag: unit,
			octal:  f.Tag.Get("mode") == "octal",
			secret: f.Tag.Get("secret") == "true",
			shown:  f.Tag.Get("shown") == "true",
			legacy: f.Tag.Get("legacy") == "true",
		}
		switch base, ok := scalar(f.Type); {
		case name == "":
			fault("its param tag is empty")
		case !f.IsExported():
			fault("it is not exported")
		case !ok:
			fault(fmt.Sprintf("no parameter can have the type %s", f.Type))
		case p.secret && p.shown:
			fault("it is both secret and shown")
		case unit != "" && (base != durationType || p.unit == 0):
			fault(fmt.Sprintf("unit %q suits no %s", unit, f.Type))
		case (p.octal || len(p.oneof) > 0) && base.Kind() != reflect.String:
			fault("only strings have a mode or a oneof")
		}
		for _, n := range append([]string{name}, p.aliases...) {
			if _, twice := tab.byName[n]; twice {
				fault(fmt.Sprintf("the name %q is taken", n))
			}
			tab.byName[n] = len(tab.params)
		}
		if !p.legacy {
			tab.names = append(tab.names, name)
		}
		tab.params = append(tab.params, p)
	}
	return tab
}

// scalar is the type of a single value of t: of what a pointer points to, and of the
// elements of a list or map. It reports whether t can be a parameter.
func scalar(t reflect.Type) (reflect.Type, bool) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		t = t.Elem()
	case reflect.Map:
		if t.Key().Kind() != reflect.String {
			return t, false
		}
		t = t.Elem()
	}
	switch k := t.Kind(); {
	case k == reflect.String, k == reflect.Bool, k == reflect.Float32, k == reflect.Float64:
		return t, true
	default:
		return t, k >= reflect.Int && k <= reflect.Uint64
	}
}
