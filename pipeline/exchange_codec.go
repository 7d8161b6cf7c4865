package pipeline

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/params"
)

// parcelVersion is that of the form in which exported resources are published.
const parcelVersion = 1

// parcel is an exported resource as the mesh has it, at its mesh.ExportKey. It says
// nothing that changes without the resource, such as its line in the file.
type parcel struct {
	Version int `json:"v"`

	// Hosts are those for which it is meant; none stands for all.
	Hosts []string `json:"hosts,omitempty"`

	// File is where it is described on its host.
	File string `json:"file,omitempty"`

	contents

	// Sealed are the contents of one that is secret, for the hosts For alone: those of Hosts
	// that the mesh knew at the revision SealedAt, and the one that exports it.
	Sealed   []byte   `json:"sealed,omitempty"`
	For      []string `json:"for,omitempty"`
	SealedAt int64    `json:"sealed_at,omitempty"`
}

// contents is what an exported resource is made of, both as a graph file would have it.
type contents struct {
	Params string `json:"params,omitempty"`
	Meta   string `json:"meta,omitempty"`
}

// secret is what is sealed: contents with the key for which they are, without which
// somebody else could pass them off as an export of his own.
type secret struct {
	Key string `json:"key"`
	contents
}

// everyHost stands for all hosts in meta.export.
const everyHost = "*"

// hostsOf are the hosts for which v is exported; nil stands for all.
func hostsOf(v *Vertex) []string {
	if slices.Contains(v.Meta.Export, everyHost) {
		return nil
	}
	hosts := slices.Clone(v.Meta.Export)
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// meantFor says that hosts, as hostsOf has returned them, include a host.
func meantFor(hosts []string, host string) bool {
	return len(hosts) == 0 || slices.Contains(hosts, host)
}

// pack returns the contents of v, which are what its Config and its Meta say.
func pack(v *Vertex, cfg sinks.Config, spec sinks.Spec) (contents, error) {
	var c contents
	var err error
	if c.Params, err = marshal(cfg, spec.New()); err != nil {
		return contents{}, err
	}
	meta := *v.Meta
	meta.Export = nil
	c.Meta, err = marshal(&meta, new(DefaultMeta()))
	return c, err
}

// marshal is params.Marshal, which says nothing if nothing differs.
func marshal(value, defaults any) (string, error) {
	text, err := params.Marshal(value, defaults)
	if text == "{}\n" {
		text = ""
	}
	return text, err
}

// unpack makes a vertex of contents.
func (c contents) unpack(kind, name string, spec sinks.Spec) (*Vertex, error) {
	v := &Vertex{Kind: kind, Name: name, Meta: &defaultMeta, Config: spec.New()}
	if err := unmarshal(c.Params, v.Config, "parameter"); err != nil {
		return nil, err
	}
	if c.Meta == "" {
		return v, nil
	}
	v.Meta = new(DefaultMeta())
	if err := unmarshal(c.Meta, v.Meta, "meta-parameter"); err != nil {
		return nil, err
	}
	v.Meta.Export = nil
	return v, v.Meta.Validate()
}

// unmarshal decodes what marshal has returned, perhaps in another version of the program.
func unmarshal(text string, value any, what string) error {
	if text == "" {
		return nil
	}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		return fmt.Errorf("its %ss can't be read: %w", what, err)
	}
	if len(doc.Content) == 0 {
		return nil
	}
	if p := checkAliases(&doc); p != nil {
		return fmt.Errorf("its %ss can't be read: %s", what, p.Message)
	}
	var wrong []string
	for _, p := range params.Decode(doc.Content[0], value) {
		if p.Unknown {
			p.Message = fmt.Sprintf("this version of mgmt doesn't know its %s %q", what, brief(p.Param))
		}
		wrong = append(wrong, p.Message)
	}
	if len(wrong) > 0 {
		return errors.New(strings.Join(wrong, "; "))
	}
	return nil
}

// openParcel reads what a host has published.
func openParcel(value []byte) (*parcel, error) {
	var p parcel
	if err := json.Unmarshal(value, &p); err != nil {
		return nil, fmt.Errorf("what was published is no resource: %w", err)
	}
	if p.Version != parcelVersion {
		return nil, fmt.Errorf("it was published in form %d, and this version of mgmt knows form %d", p.Version, parcelVersion)
	}
	return &p, nil
}

// openContents reads what was sealed for a key.
func openContents(key string, plain []byte) (*contents, error) {
	var s secret
	if err := json.Unmarshal(plain, &s); err != nil {
		return nil, fmt.Errorf("what was sealed is no resource: %w", err)
	}
	if s.Key != key {
		return nil, fmt.Errorf("what was sealed is %s, which was not exported here", brief(s.Key))
	}
	return &s.contents, nil
}
