package pipeline

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/mgmtproject/mgmt/sources/mesh"
)

// sealer seals what is secret, for hosts that the mesh knows.
type sealer struct {
	secrets int // how many exports are secret

	knows bool             // known is watched
	ready bool             // and was heard of
	known map[string]int64 // hosts with a key, and the revision at which it was written
	at    int64            // the revision of known

	unsealed map[string]bool   // keys of exports that are to be sealed
	sealing  int               // that are under way
	unknown  map[string]string // hosts of exports that were told to be unknown, by key
}

func newSealer() sealer {
	return sealer{known: map[string]int64{}, unsealed: map[string]bool{}, unknown: map[string]string{}}
}

// maxSealing is how many contents are sealed at once.
const maxSealing = 4

// hosts takes in which hosts the mesh knows, and seals anew for those that have another key.
func (p *publisher) hosts(c mesh.Change) {
	changed := map[string]bool{}
	seen := map[string]bool{}
	for _, e := range c.Put {
		host := e.Key[len(mesh.HostPrefix):]
		seen[host] = true
		if p.known[host] != e.Revision {
			p.known[host], changed[host] = e.Revision, true
		}
	}
	for _, key := range c.Deleted {
		host := key[len(mesh.HostPrefix):]
		delete(p.known, host)
		changed[host] = true
	}
	if c.Reset {
		for host := range p.known {
			if !seen[host] {
				delete(p.known, host)
				changed[host] = true
			}
		}
	}
	p.ready, p.at = true, c.Revision
	for key, e := range p.want {
		if e.plain != nil && slices.ContainsFunc(p.recipients(e), func(host string) bool { return changed[host] }) {
			p.unsealed[key] = true
		}
	}
}

// recipients are all who have to be able to open an export: its hosts and this one, which
// would otherwise not know after a restart what it has published.
func (p *publisher) recipients(e *export) []string {
	list := append(hostsOf(e.v), p.x.opts.Host)
	slices.Sort(list)
	return slices.Compact(list)
}

// hides says that what the mesh has of a key may stay until a secret export is sealed.
func (p *publisher) hides(key string, e *export) bool {
	has, ok := p.there[key]
	if !ok {
		return true
	}
	old, err := openParcel(has.value)
	return err == nil && len(old.Sealed) > 0 && old.contents == contents{} && contains(p.recipients(e), old.For)
}

// contains says that all of few are in many.
func contains(many, few []string) bool {
	return !slices.ContainsFunc(few, func(s string) bool { return !slices.Contains(many, s) })
}

// seal begins to seal what is to be sealed.
func (p *publisher) seal() {
	if !p.synced || !p.ready || p.x.opts.Noop {
		return
	}
	for key := range p.unsealed {
		if p.sealing >= maxSealing {
			return
		}
		delete(p.unsealed, key)
		e := p.want[key]
		if e == nil || e.plain == nil {
			continue
		}
		recipients, missing := p.recipients(e), []string(nil)
		recipients = slices.DeleteFunc(recipients, func(host string) bool {
			_, ok := p.known[host]
			if !ok && host != p.x.opts.Host {
				missing = append(missing, host)
			}
			return !ok
		})
		p.tellUnknown(key, e, missing)
		if others := slices.DeleteFunc(hostsOf(e.v), func(host string) bool { return host == p.x.opts.Host }); len(recipients) == 0 ||
			len(missing) > 0 && len(missing) == len(others) {
			continue // there is nobody yet who could open it
		}
		p.sealFor(key, e, recipients)
	}
}

// tellUnknown tells that something is not sealed for some hosts, once.
func (p *publisher) tellUnknown(key string, e *export, missing []string) {
	names := strings.Join(missing, ", ")
	if p.unknown[key] == names {
		return
	}
	if p.unknown[key] = names; names != "" {
		p.x.opts.Log.Warn("not published for all hosts", "res", e.v.String(), "hosts", names,
			"why", "the mesh does not know their keys", "next", "when they join")
	}
}

// sealFor seals an export for recipients, unless that is what the mesh has.
func (p *publisher) sealFor(key string, e *export, recipients []string) {
	vault, ok := p.x.store.(mesh.Vault)
	if !ok {
		p.x.opts.Log.Warn("not published", "res", e.v.String(), "error", "it is secret, and can't be sealed without keys of the hosts")
		return
	}
	p.sealing++
	plain, has := e.plain, p.there[key].value
	fresh := parcel{Version: parcelVersion, Hosts: hostsOf(e.v), File: e.file, For: recipients, SealedAt: p.at}
	newest := int64(0)
	for _, host := range recipients {
		newest = max(newest, p.known[host])
	}
	p.x.work.Go(func() {
		value, err := has, error(nil)
		if !p.opens(vault, has, fresh, newest, plain) {
			if fresh.Sealed, err = vault.Seal(p.x.ctx, recipients, plain); err == nil {
				value, err = json.Marshal(fresh)
			}
		}
		p.x.later(func() { p.sealed(key, e, plain, value, err) })
	})
}

// opens says that a value is plain, sealed for the same and with keys that are as new.
func (p *publisher) opens(vault mesh.Vault, value []byte, fresh parcel, newest int64, plain []byte) bool {
	old, err := openParcel(value)
	if err != nil || len(old.Sealed) == 0 || old.SealedAt < newest || old.File != fresh.File || old.contents != (contents{}) ||
		!slices.Equal(old.Hosts, fresh.Hosts) || !slices.Equal(old.For, fresh.For) {
		return false
	}
	opened, err := vault.Open(p.x.ctx, old.Sealed)
	return err == nil && bytes.Equal(opened, plain)
}

// sealed takes in what was sealed.
func (p *publisher) sealed(key string, e *export, plain, value []byte, err error) {
	p.sealing--
	switch {
	case p.want[key] != e || !bytes.Equal(plain, e.plain) || p.x.ctx.Err() != nil: // there is something newer
	case errors.Is(err, mesh.ErrUnreachable):
		p.x.work.Go(func() {
			select {
			case <-p.x.ctx.Done():
			case <-time.After(time.Second):
				p.x.later(func() { p.unsealed[key] = true })
			}
		})
	case err != nil:
		p.x.opts.Log.Warn("not published", "res", e.v.String(), "error", err)
	default:
		e.value = value
		p.check(key)
	}
}
