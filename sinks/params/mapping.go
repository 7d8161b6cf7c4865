package params

import (
	"fmt"
	"strconv"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// The tags that yaml.v3 gives to the nodes of a document.
const (
	nullTag   = "!!null"
	boolTag   = "!!bool"
	intTag    = "!!int"
	floatTag  = "!!float"
	strTag    = "!!str"
	timeTag   = "!!timestamp"
	binaryTag = "!!binary"
	mergeTag  = "!!merge"
)

// plainTag reports whether the literal text of a value can stand for a string.
func plainTag(tag string) bool {
	return tag == strTag || tag == intTag || tag == floatTag || tag == timeTag
}

// Resolve returns the node that an alias stands for, and any other node itself.
func Resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// IsNull reports whether n, or what it is an alias of, is null: not given.
func IsNull(n *yaml.Node) bool {
	n = Resolve(n)
	return n.Kind == yaml.ScalarNode && n.Tag == nullTag
}

// Each calls visit for every key of a mapping: its own in the order of the file, then
// those that merge keys (<<) bring in, unless they are overridden. It returns what is
// wrong: no mapping, a key that is given twice (visited once), a key that is not a
// single value.
func Each(node *yaml.Node, visit func(key, value *yaml.Node, merged bool)) []Problem {
	node = Resolve(node)
	if node.Kind != yaml.MappingNode {
		return []Problem{problem(node, "", "expected a mapping of \"key: value\", found "+Describe(node), "")}
	}
	w := walker{visit: visit}
	w.own(node)
	if w.merges {
		w.visited = map[*yaml.Node]bool{node: true}
		w.seen = map[string]bool{}
		for i := 0; i+1 < len(node.Content); i += 2 {
			w.seen[Resolve(node.Content[i]).Value] = true
		}
		w.merge(node)
	}
	return w.problems
}

type walker struct {
	visit    func(key, value *yaml.Node, merged bool)
	problems []Problem
	merges   bool                // the mapping has a merge key
	seen     map[string]bool     // keys that are overridden
	visited  map[*yaml.Node]bool // mappings that have been merged
}

// few is how many keys are compared one by one to find duplicates.
const few = 16

// own visits the keys of the mapping itself.
func (w *walker) own(node *yaml.Node) {
	var lines map[string]*yaml.Node
	if len(node.Content) > 2*few {
		lines = make(map[string]*yaml.Node, len(node.Content)/2)
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := Resolve(node.Content[i])
		switch {
		case key.Kind != yaml.ScalarNode:
			w.problems = append(w.problems, problem(node.Content[i], "", "expected a name before the colon, found "+Describe(key), ""))
			continue
		case key.Tag == mergeTag:
			w.merges = true
			continue
		}
		var before *yaml.Node
		if lines != nil {
			if before = lines[key.Value]; before == nil {
				lines[key.Value] = key
			}
		} else {
			for j := 0; j < i; j += 2 {
				if other := Resolve(node.Content[j]); other.Value == key.Value && other.Kind == yaml.ScalarNode && other.Tag != mergeTag {
					before = other
					break
				}
			}
		}
		if before != nil {
			w.problems = append(w.problems, problem(key, key.Value,
				fmt.Sprintf("%s is given twice, first in line %d", quoted(key.Value), before.Line), "keep one of them"))
			continue
		}
		w.visit(key, node.Content[i+1], false)
	}
}

// merge visits what the merge keys of node bring in. Every mapping is visited once, as a
// second visit could add nothing: so aliases of aliases don't multiply.
func (w *walker) merge(node *yaml.Node) {
	for i := 0; i+1 < len(node.Content); i += 2 {
		if key := node.Content[i]; key.Kind != yaml.ScalarNode || key.Tag != mergeTag {
			continue
		}
		value := node.Content[i+1]
		sources := []*yaml.Node{value}
		if list := Resolve(value); list.Kind == yaml.SequenceNode {
			sources = list.Content
		}
		for _, source := range sources {
			from := Resolve(source)
			if from.Kind != yaml.MappingNode {
				w.problems = append(w.problems, problem(source, "<<", "<< merges mappings, found "+Describe(from), ""))
				continue
			}
			if w.visited[from] {
				continue
			}
			w.visited[from] = true
			for j := 0; j+1 < len(from.Content); j += 2 {
				key := Resolve(from.Content[j])
				if key.Kind == yaml.ScalarNode && key.Tag != mergeTag && !w.seen[key.Value] {
					w.seen[key.Value] = true
					w.visit(key, from.Content[j+1], true)
				}
			}
			w.merge(from)
		}
	}
}

// Describe says for people what a node is: a list, the number 5, the string "five".
func Describe(n *yaml.Node) string {
	n = Resolve(n)
	switch {
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Tag == nullTag:
		return "nothing"
	case n.Tag == boolTag:
		return n.Value
	case n.Tag == intTag, n.Tag == floatTag:
		return "the number " + short(n.Value)
	case n.Tag == timeTag:
		return "the date " + short(n.Value)
	}
	return "the string " + strconv.Quote(short(n.Value))
}

// quoted is a key as messages show it.
func quoted(s string) string { return strconv.Quote(short(s)) }

// short cuts what is too long for a message.
func short(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}
