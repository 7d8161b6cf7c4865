package meshcli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmtproject/mgmt/pipeline/peer/members"
	store "github.com/mgmtproject/mgmt/sources/mesh"
)

// reportVersion is that of the JSON document of mgmt mesh status.
const reportVersion = 1

// report is how a mesh is, as one host sees it.
type report struct {
	Version int `json:"version"`

	// Host is the host that was asked, and Mesh the identity of its mesh.
	Host string `json:"host"`
	Mesh string `json:"mesh,omitempty"`

	// Foreign says that an etcd that somebody else runs keeps the mesh.
	Foreign bool `json:"foreign,omitempty"`

	// Reached says that the servers can decide, and Error why not. Revision is that of the
	// store, and Latency how long a read took on which they had to agree.
	Reached  bool    `json:"reached"`
	Error    string  `json:"error,omitempty"`
	Revision int64   `json:"revision,omitempty"`
	Latency  float64 `json:"latency_ms,omitempty"`

	// Leader is the host that decides who serves, and Ideal how many should.
	Leader string `json:"leader,omitempty"`
	Ideal  int    `json:"ideal_size,omitempty"`

	Servers []serverReport `json:"servers"`
	Hosts   []hostReport   `json:"hosts"`
	Alarms  []string       `json:"alarms,omitempty"`
}

// serverReport is how a server is.
type serverReport struct {
	Host    string     `json:"host"`
	Member  members.ID `json:"member"`
	Learner bool       `json:"learner,omitempty"`
	URLs    []string   `json:"urls"`

	// Problem is why the server does not answer. Otherwise all below is what it says.
	Problem  string  `json:"problem,omitempty"`
	Leader   bool    `json:"leader,omitempty"` // of the servers among themselves
	Latency  float64 `json:"latency_ms,omitempty"`
	Revision int64   `json:"revision,omitempty"`
	Term     uint64  `json:"term,omitempty"`
	Index    uint64  `json:"index,omitempty"`
	Size     int64   `json:"db_bytes,omitempty"`
	InUse    int64   `json:"db_bytes_in_use,omitempty"`
	Quota    int64   `json:"db_bytes_quota,omitempty"`
}

// hostReport is how a host is.
type hostReport struct {
	Name string `json:"name"`

	// Alive says that the host is there. It Serves the mesh if it is asked to.
	Alive   bool   `json:"alive"`
	Serves  bool   `json:"serves,omitempty"`
	Leaving bool   `json:"leaving,omitempty"`
	Trouble string `json:"trouble,omitempty"`
	Version string `json:"version,omitempty"`

	// Exports is how many resources it exports.
	Exports int `json:"exports"`
}

// well says that all is as it should be.
func (r *report) well() bool {
	return r.Reached && len(r.Alarms) == 0 &&
		!slices.ContainsFunc(r.Servers, func(s serverReport) bool { return s.Problem != "" }) &&
		!slices.ContainsFunc(r.Hosts, func(h hostReport) bool { return h.Trouble != "" })
}

// voters counts the servers that decide, and those of them that answer.
func (r *report) voters() (all, up int) {
	for _, s := range r.Servers {
		if !s.Learner {
			all++
			if s.Problem == "" {
				up++
			}
		}
	}
	return all, up
}

const (
	// serverLimit is how long one server has to answer.
	serverLimit = 2 * time.Second

	// agreeLimit is how long all servers have to agree on something.
	agreeLimit = 4 * time.Second
)

// survey finds out how the mesh is. What can't be found out is left out, and why the mesh
// can't be reached is told in the report.
func (r *reached) survey(ctx context.Context) *report {
	out := &report{Version: reportVersion, Host: r.host, Servers: []serverReport{}, Hosts: []hostReport{}}
	var work sync.WaitGroup
	work.Go(func() { r.agree(ctx, out) })
	var servers []serverReport
	work.Go(func() { servers = r.servers(ctx) })
	work.Wait()
	out.Servers = append(out.Servers, servers...)
	if err := r.records(ctx, out); err != nil && out.Error == "" {
		out.Error = err.Error()
	}
	if out.Reached {
		out.Alarms = r.alarms(ctx)
	}
	return out
}

// alarms are what the servers complain about, as far as this host may know.
func (r *reached) alarms(ctx context.Context) []string {
	ctx, done := context.WithTimeout(ctx, serverLimit)
	defer done()
	resp, err := r.client.AlarmList(ctx)
	if err != nil {
		return nil
	}
	var list []string
	for _, a := range resp.Alarms {
		list = append(list, fmt.Sprintf("%v on member %v", a.Alarm, members.ID(a.MemberID)))
	}
	return list
}

// agree asks for something on which most servers have to agree.
func (r *reached) agree(ctx context.Context, out *report) {
	ctx, done := context.WithTimeout(ctx, agreeLimit)
	defer done()
	_, _, err := r.store.Get(ctx, store.IDKey)
	if err != nil {
		out.Error = err.Error()
		return
	}
	began := time.Now() // the first time it had to connect
	if resp, err := r.client.Get(ctx, store.IDKey); err == nil {
		out.Reached, out.Revision, out.Latency = true, resp.Header.Revision, milliseconds(time.Since(began))
	} else {
		out.Error = err.Error()
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Round(time.Microsecond)) / 1e6 }

// servers asks each server how it is. That takes no majority of them.
func (r *reached) servers(ctx context.Context) []serverReport {
	list := r.members(ctx)
	reports := make([]serverReport, len(list))
	var work sync.WaitGroup
	for i, m := range list {
		reports[i] = serverReport{Host: m.Name, Member: members.ID(m.ID), Learner: m.IsLearner, URLs: m.ClientURLs}
		work.Go(func() { r.server(ctx, &reports[i]) })
	}
	work.Wait()
	slices.SortFunc(reports, func(a, b serverReport) int { return strings.Compare(a.Host, b.Host) })
	return reports
}

// members are those that the servers know of.
func (r *reached) members(ctx context.Context) []*etcdserverpb.Member {
	ctx, done := context.WithTimeout(ctx, serverLimit)
	defer done()
	resp, err := r.client.MemberList(ctx, clientv3.WithSerializable())
	if err != nil {
		return nil
	}
	return resp.Members
}

func (r *reached) server(ctx context.Context, s *serverReport) {
	ctx, done := context.WithTimeout(ctx, serverLimit)
	defer done()
	if len(s.URLs) == 0 {
		s.Problem = "it has not started"
		return
	}
	if _, err := r.client.Status(ctx, s.URLs[0]); err != nil {
		s.Problem = plain(err)
		return
	}
	began := time.Now() // the first time it had to connect
	resp, err := r.client.Status(ctx, s.URLs[0])
	if err != nil {
		s.Problem = plain(err)
		return
	}
	s.Latency = milliseconds(time.Since(began))
	s.Leader = resp.Leader != 0 && resp.Leader == resp.Header.MemberId
	s.Revision, s.Term, s.Index = resp.Header.Revision, resp.RaftTerm, resp.RaftAppliedIndex
	s.Size, s.InUse, s.Quota = resp.DbSize, resp.DbSizeInUse, resp.DbSizeQuota
}

// plain is an error of a server without what it means to programs.
func plain(err error) string {
	if errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "DeadlineExceeded") {
		return fmt.Sprintf("it has not answered within %v", serverLimit)
	}
	return err.Error()
}

// records reads what hosts have left in the mesh, from any server that answers.
func (r *reached) records(ctx context.Context, out *report) error {
	ctx, done := context.WithTimeout(ctx, agreeLimit)
	defer done()
	hosts := map[string]*hostReport{}
	host := func(name string) *hostReport {
		if hosts[name] == nil {
			hosts[name] = &hostReport{Name: name}
		}
		return hosts[name]
	}
	err := errors.Join(
		r.each(ctx, store.IDKey, func(_ string, value []byte) error {
			var m members.Mesh
			err := json.Unmarshal(value, &m)
			out.Mesh, out.Foreign = m.ID, m.Foreign
			return err
		}),
		r.each(ctx, store.HostPrefix, func(name string, _ []byte) error {
			host(name)
			return nil
		}),
		r.each(ctx, store.AlivePrefix, func(name string, value []byte) error {
			h := host(name)
			var a members.Alive
			err := json.Unmarshal(value, &a)
			h.Alive, h.Serves, h.Leaving, h.Trouble, h.Version = true, a.Serves, a.Leaving, a.Trouble, a.Version
			return err
		}),
		r.each(ctx, store.ExportPrefix, func(key string, _ []byte) error {
			name, _, _ := strings.Cut(key, "/")
			host(name).Exports++
			return nil
		}, clientv3.WithKeysOnly()),
		r.each(ctx, members.LeaderPrefix, func(name string, _ []byte) error {
			if out.Leader == "" {
				out.Leader = name
			}
			return nil
		}, clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend)),
		r.each(ctx, members.IdealKey, func(_ string, value []byte) (err error) {
			out.Ideal, err = members.ParseIdeal(value)
			return err
		}),
	)
	if out.Ideal == 0 && !out.Foreign {
		out.Ideal = members.DefaultIdeal
	}
	for _, h := range hosts {
		out.Hosts = append(out.Hosts, *h)
	}
	slices.SortFunc(out.Hosts, func(a, b hostReport) int { return strings.Compare(a.Name, b.Name) })
	return err
}

// each calls f with what follows prefix in each key, and its value. It reads what a server
// has, whether the others agree or not.
func (r *reached) each(ctx context.Context, prefix string, f func(string, []byte) error, opts ...clientv3.OpOption) error {
	resp, err := r.client.Get(ctx, prefix, append(opts, clientv3.WithPrefix(), clientv3.WithSerializable())...)
	if err != nil {
		return err
	}
	for _, kv := range resp.Kvs {
		if err := f(strings.TrimPrefix(string(kv.Key), prefix), kv.Value); err != nil {
			return fmt.Errorf("%s: %w", kv.Key, err)
		}
	}
	return nil
}
