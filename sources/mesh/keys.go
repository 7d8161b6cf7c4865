package mesh

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// Root begins every key of a mesh, so that others may use the same store.
const Root = "/mgmt/"

// The keys of a mesh. Those that end with a slash are followed by the name of the host that
// writes them, which nobody but it and the servers may do.
const (
	// IDKey holds the identity of the mesh, and tells it from a store that somebody else
	// runs. It is written once.
	IDKey = Root + "id"

	// AlivePrefix has a bound key for each host that is there: an Alive.
	AlivePrefix = Root + "alive/"

	// HostPrefix has a key for each host that has ever been there: what others must know of
	// it, such as the key for which its secrets are sealed.
	HostPrefix = Root + "host/"

	// ExportPrefix has a directory for each host, with a key for each resource that it
	// exports: see ExportKey.
	ExportPrefix = Root + "export/"

	// QuietPrefix has a bound key for each host that runs with converged scope mesh.
	QuietPrefix = Root + "quiet/"

	// HoldPrefix has a directory for each host, with a bound key for each semaphore that it
	// holds or waits for.
	HoldPrefix = Root + "hold/"

	// RolePrefix has a directory for each host, with a bound key for each role for which it
	// offers itself.
	RolePrefix = Root + "role/"

	// FencePrefix has a key for each host, with which the store sees to it that no write of
	// the host is made later than one that came after it.
	FencePrefix = Root + "fence/"

	// SettingPrefix has what was set for the mesh as a whole, such as its ideal size. Only
	// servers write it.
	SettingPrefix = Root + "setting/"

	// ServerPrefix has what the leader and the servers need. Only servers write it.
	ServerPrefix = Root + "server/"

	// IdentityPrefix has what the servers keep of tokens and certificates. Only servers read
	// it, so nobody else can list or watch all of Root at once.
	IdentityPrefix = Root + "identity/"

	// SharedPrefix is for all hosts to write: the keys of kv below kv/, the decisions of
	// schedule, the common end of a converged mesh.
	SharedPrefix = Root + "shared/"

	// KVPrefix is followed by the key of a kv resource.
	KVPrefix = SharedPrefix + "kv/"
)

// ExportKey is the key of one exported resource. Kind and name are escaped, so that they
// hold no slash.
func ExportKey(host, kind, name string) string {
	return ExportPrefix + host + "/" + url.PathEscape(kind) + "/" + url.PathEscape(name)
}

// ParseExportKey takes apart what ExportKey has made.
func ParseExportKey(key string) (host, kind, name string, err error) {
	rest, ok := strings.CutPrefix(key, ExportPrefix)
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 3 {
		return "", "", "", fmt.Errorf("%q is no key of an exported resource", key)
	}
	if kind, err = url.PathUnescape(parts[1]); err == nil {
		name, err = url.PathUnescape(parts[2])
	}
	if err != nil {
		return "", "", "", fmt.Errorf("%q is no key of an exported resource: %w", key, err)
	}
	return parts[0], kind, name, nil
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$`)

// CheckHost says what is wrong with the name of a host.
func CheckHost(name string) error {
	if hostName.MatchString(name) {
		return nil
	}
	return fmt.Errorf("%q is no name for a host, expected letters, digits, dots, dashes and underscores", name)
}
