package members

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/mgmtproject/mgmt/sources/mesh"
)

// The keys of the records.
const (
	// NamedPrefix is followed by a host that was asked to run a server: a Named.
	NamedPrefix = mesh.ServerPrefix + "member/"

	// ServersKey has the Servers of the mesh.
	ServersKey = mesh.ServerPrefix + "servers"

	// LeaderPrefix has a bound key for each host that runs a voter. That with the oldest one
	// leads.
	LeaderPrefix = mesh.ServerPrefix + "leader/"

	// IdealKey has the number of voters to aim at, in digits.
	IdealKey = mesh.SettingPrefix + "ideal-size"
)

// ID is the identity of a member or of a mesh, written as etcd's own tools do.
type ID uint64

// MarshalText implements encoding.TextMarshaler: "8e9e05c52164694d".
func (id ID) MarshalText() ([]byte, error) { return strconv.AppendUint(nil, uint64(id), 16), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 16, 64)
	*id = ID(n)
	return err
}

// String is the text of MarshalText.
func (id ID) String() string { return strconv.FormatUint(uint64(id), 16) }

// Mesh is at mesh.IDKey: what tells a mesh from a store that somebody else runs.
type Mesh struct {
	ID string `json:"id"`

	// Foreign says that its hosts run no servers.
	Foreign bool `json:"foreign,omitempty"`
}

// Alive is below mesh.AlivePrefix, bound to its host: that it is there, and what it offers.
type Alive struct {
	// Serves says that the host would run a server, and Trouble why it can't now.
	Serves  bool   `json:"serves,omitempty"`
	Trouble string `json:"trouble,omitempty"`

	// Leaving says that the host wants to go, as soon as nothing needs it any more.
	Leaving bool `json:"leaving,omitempty"`

	// ClientURLs and PeerURLs are where clients and other servers find its server, if it
	// has one or will have.
	ClientURLs []string `json:"client_urls,omitempty"`
	PeerURLs   []string `json:"peer_urls,omitempty"`

	// Member is the server that runs, and Data that of which there is data. Either may be 0.
	Member ID `json:"member,omitzero"`
	Data   ID `json:"data,omitzero"`

	// Instance is that of the directory in which the host keeps its part of the mesh: two
	// hosts of the same name have not the same.
	Instance string `json:"instance,omitempty"`

	// Version is that of the program.
	Version string `json:"version,omitempty"`
}

// Known is below mesh.HostPrefix: what others must know of a host, also when it is away.
type Known struct {
	// Recipient is the public key of age for which secrets are sealed.
	Recipient string `json:"recipient,omitempty"`
}

// Named is below NamedPrefix: the member that a host is asked to be.
type Named struct {
	Member ID `json:"member"`
}

// Servers is at ServersKey: where clients find the voters. The leader keeps it.
type Servers struct {
	Servers []Server `json:"servers"`
}

// Server is one of Servers.
type Server struct {
	Host       string   `json:"host"`
	Member     ID       `json:"member"`
	ClientURLs []string `json:"client_urls"`
}

// URLs are all client URLs.
func (s Servers) URLs() []string {
	var urls []string
	for _, server := range s.Servers {
		urls = append(urls, server.ClientURLs...)
	}
	return urls
}

// ParseIdeal reads the value of IdealKey.
func ParseIdeal(value []byte) (int, error) {
	n, err := strconv.Atoi(strings.TrimSpace(string(value)))
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%s is %q, expected a number of servers such as %d", IdealKey, value, DefaultIdeal)
	}
	return n, nil
}

// Put returns the Op that writes a record at key.
func Put(key string, record any) mesh.Op {
	value, err := json.Marshal(record)
	if err != nil {
		panic(err) // the records above can be marshalled
	}
	return mesh.Put(key, value)
}
