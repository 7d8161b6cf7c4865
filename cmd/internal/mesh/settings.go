package mesh

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/pflag"

	"github.com/mgmtproject/mgmt/sources/mesh"
)

// Settings are how a host takes part in a mesh. The agent is told them by flags, and passes
// them on to the peer that it starts.
type Settings struct {
	// Host is the name by which the mesh knows this host.
	Host Host

	// Seeds are where hosts of the mesh can be reached; without any the mesh is new, or
	// one in which this host was before.
	Seeds Addresses

	// ClientURLs and ServerURLs are where a server of this host listens, for all hosts and
	// for other servers; and the others what the rest of the mesh uses to reach it there.
	ClientURLs, ServerURLs                   Addresses
	AdvertiseClientURLs, AdvertiseServerURLs Addresses

	// IdealSize is how many servers a new mesh has, if there are as many hosts; 0 leaves it
	// to the mesh.
	IdealSize IdealSize

	// NoServer says that this host is never one of them.
	NoServer bool

	// Join is a token that lets this host in.
	Join Token

	// Insecure lets a mesh without certificates be one of a network.
	Insecure bool
}

// Flags adds the flags that set them.
func (s *Settings) Flags(f *pflag.FlagSet) {
	f.Var(&s.Host, "hostname", "take part in a mesh as `NAME` (default: the name of the host)")
	f.Var(&s.Seeds, "seeds", "reach the mesh through one of these `ADDRESSES`, those at which other hosts listen for clients; commas between them")
	f.Var(&s.ClientURLs, "client-urls", "listen at `URLS` for the hosts of the mesh, if this host serves it (default: a free port of 127.0.0.1)")
	f.Var(&s.ServerURLs, "server-urls", "listen at `URLS` for other servers of the mesh (likewise)")
	f.Var(&s.AdvertiseClientURLs, "advertise-client-urls", "let the mesh know these `URLS` in the place of --client-urls")
	f.Var(&s.AdvertiseServerURLs, "advertise-server-urls", "let the mesh know these `URLS` in the place of --server-urls")
	f.BoolVar(&s.NoServer, "no-server", false, "never serve the mesh")
	f.Var(&s.IdealSize, "ideal-size", "in a new mesh, let `N` of the hosts serve it, an odd number (default 5)")
	f.Var(&s.Join, "join", "be let into the mesh by a `TOKEN` of mgmt mesh invite, or with @FILE by what is in a file, unless this host is in it already")
	f.BoolVar(&s.Insecure, "insecure", false, "let a mesh without certificates be reached from other machines: whoever reaches it can read and change all that is in it")
}

// JoinVariable is the variable of the environment in which a peer finds Join, which is
// nothing for a list of processes.
const JoinVariable = "MGMT_MESH_JOIN"

// Args are the arguments that make another program have the same settings, but for Join.
func (s *Settings) Args() []string {
	var args []string
	for _, f := range []struct {
		name  string
		value pflag.Value
	}{
		{"hostname", &s.Host}, {"seeds", &s.Seeds},
		{"client-urls", &s.ClientURLs}, {"server-urls", &s.ServerURLs},
		{"advertise-client-urls", &s.AdvertiseClientURLs}, {"advertise-server-urls", &s.AdvertiseServerURLs},
		{"ideal-size", &s.IdealSize},
	} {
		if text := f.value.String(); text != "" {
			args = append(args, "--"+f.name+"="+text)
		}
	}
	if s.NoServer {
		args = append(args, "--no-server")
	}
	if s.Insecure {
		args = append(args, "--insecure")
	}
	return args
}

// Name is the name of this host in the mesh.
func (s *Settings) Name() string {
	if s.Host != "" {
		return string(s.Host)
	}
	name, _ := os.Hostname()
	name = strings.Trim(strings.Map(func(r rune) rune {
		if strings.ContainsRune("._-", r) || r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return r
		}
		return '-'
	}, name), "._-")
	if mesh.CheckHost(name) != nil {
		return "localhost"
	}
	return name
}

// Token is a flag with a secret, or with "@" and the name of a file with one. The file need
// not be there any more once the token was used, so one that is missing is no mistake here.
type Token string

// Set implements pflag.Value.
func (t *Token) Set(s string) error {
	path, ok := strings.CutPrefix(s, "@")
	if !ok {
		*t = Token(s)
		return nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		*t = Token(s)
		return nil
	}
	*t = Token(strings.TrimSpace(string(text)))
	return err
}

// Missing is the name of the file that was not there.
func (t *Token) Missing() (path string, missing bool) { return strings.CutPrefix(string(*t), "@") }

// String implements pflag.Value.
func (t *Token) String() string { return string(*t) }

// Type implements pflag.Value.
func (*Token) Type() string { return "TOKEN" }

// Host is a flag with the name of a host.
type Host string

// Set implements pflag.Value.
func (h *Host) Set(s string) error {
	*h = Host(s)
	return mesh.CheckHost(s)
}

// String implements pflag.Value.
func (h *Host) String() string { return string(*h) }

// Type implements pflag.Value.
func (*Host) Type() string { return "NAME" }

// IdealSize is a flag with a number of servers.
type IdealSize int

// Set implements pflag.Value.
func (n *IdealSize) Set(s string) error {
	v, err := strconv.Atoi(s)
	if err != nil || v < 1 || v > 9 || v%2 == 0 {
		return fmt.Errorf("%q is not one of 1, 3, 5, 7, 9: an even number of servers survives no more failures than the odd one below it, and many slow each other down", s)
	}
	*n = IdealSize(v)
	return nil
}

// String implements pflag.Value.
func (n *IdealSize) String() string {
	if *n == 0 {
		return ""
	}
	return strconv.Itoa(int(*n))
}

// Type implements pflag.Value.
func (*IdealSize) Type() string { return "N" }

// Addresses is a flag with addresses: URLs of http or https with a host and a port, or
// those two alone. Given twice it has those of both.
type Addresses []string

// Set implements pflag.Value.
func (a *Addresses) Set(s string) error {
	for text := range strings.SplitSeq(s, ",") {
		text = strings.TrimSpace(text)
		if err := checkAddress(text); err != nil {
			return err
		}
		if !slices.Contains(*a, text) {
			*a = append(*a, text)
		}
	}
	return nil
}

func checkAddress(text string) error {
	if text == "" {
		return errors.New("an address is missing; give one such as http://192.0.2.1:2379, with commas between several")
	}
	full := text
	if !strings.Contains(full, "://") {
		full = "http://" + full
	}
	u, err := url.Parse(full)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || strings.TrimSuffix(u.Path, "/") != "" || u.User != nil || u.RawQuery != "" {
		return fmt.Errorf("%q is not an address such as http://192.0.2.1:2379, https://a.example:2379 or 192.0.2.1:2379", text)
	}
	if _, port, err := net.SplitHostPort(u.Host); err != nil || port == "" {
		return fmt.Errorf("%q has no port; the usual one for hosts of a mesh is 2379, for servers among themselves 2380", text)
	}
	return nil
}

// String implements pflag.Value.
func (a *Addresses) String() string { return strings.Join(*a, ",") }

// Type implements pflag.Value.
func (*Addresses) Type() string { return "ADDRESSES" }
