package peer

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/mgmtproject/mgmt/pipeline/peer/identity"
	"github.com/mgmtproject/mgmt/pipeline/peer/members"
	"github.com/mgmtproject/mgmt/sources/mesh"
)

// Vault hides values from all hosts but some.
func (p *Peer) Vault() mesh.Vault { return vault{p} }

type vault struct{ p *Peer }

// Seal implements mesh.Vault.
func (v vault) Seal(ctx context.Context, hosts []string, plain []byte) ([]byte, error) {
	var recipients, unknown []string
	for _, host := range hosts {
		e, found, err := v.p.store.Get(ctx, mesh.HostPrefix+host)
		if err != nil {
			return nil, err
		}
		var k members.Known
		if found {
			if err := json.Unmarshal(e.Value, &k); err != nil {
				return nil, fmt.Errorf("%s: %w", e.Key, err)
			}
		}
		if k.Recipient == "" {
			unknown = append(unknown, host)
			continue
		}
		recipients = append(recipients, k.Recipient)
	}
	if len(unknown) > 0 {
		return nil, fmt.Errorf("the mesh has no key of %s: only hosts that have been in it can be sent secrets", strings.Join(unknown, ", "))
	}
	return identity.Seal(recipients, plain)
}

// Open implements mesh.Vault.
func (v vault) Open(_ context.Context, sealed []byte) ([]byte, error) { return v.p.id.Open(sealed) }
