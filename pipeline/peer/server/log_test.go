package server_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/mgmtproject/mgmt/pipeline/peer/server"
)

// stuck is a log that takes nothing until it is let go.
type stuck struct {
	slog.Handler
	let chan struct{}
}

func (h stuck) Handle(ctx context.Context, r slog.Record) error {
	<-h.let
	return h.Handler.Handle(ctx, r)
}

func TestAServerGoesOnThoughNobodyTakesWhatItLogs(t *testing.T) {
	log := &records{}
	h := stuck{log.logger(slog.LevelDebug).Handler(), make(chan struct{})}
	var once sync.Once
	let := func() { once.Do(func() { close(h.let) }) }
	t.Cleanup(let)
	servers := make([]*server.Server, 3)
	for i := range servers { // each start has some hundred records
		servers[i] = start(t, server.Options{Name: fmt.Sprint("s", i), Log: slog.New(h)})
		put(t, servers[i], "x", "y")
	}
	begin := time.Now()
	stop(t, servers[0])
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("stopping took %v", took)
	}
	let()
	log.await(t, "level=DEBUG", "from=etcd", "ready to serve client requests")
}

func TestWarningsThatRepeatAreLoggedOnce(t *testing.T) {
	log := &records{}
	s := start(t, server.Options{Name: "a", Log: log.logger(slog.LevelInfo), TLS: certificates(t)})
	address := strings.TrimPrefix(s.PeerURLs()[0], "https://")
	for range 50 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte("GET / HTTP/1.1\r\n\r\n")) // it may be refused before
		_ = conn.Close()
	}
	log.await(t, "level=WARN", "rejected connection on peer endpoint", "from=etcd", "first record does not look like a TLS handshake")
	stop(t, s)
	log.mu.Lock()
	defer log.mu.Unlock()
	if len(log.lines) > 5 {
		t.Errorf("%d lines for what can be said in one:\n%s", len(log.lines), strings.Join(log.lines, ""))
	}
}

func TestAConvergedServerIsSilent(t *testing.T) {
	log := &records{}
	a, _, _ := three(t, server.Options{Log: log.logger(slog.LevelInfo), Upkeep: server.Upkeep{SlowSync: time.Hour}})
	put(t, a, "x", "y")
	log.mu.Lock()
	defer log.mu.Unlock()
	for _, l := range log.lines {
		// A connection is made before the other server is known, and then once more.
		if !strings.Contains(l, "lost TCP streaming connection") && !strings.Contains(l, "peer became inactive") {
			t.Error(l)
		}
	}
}

func TestWhatEtcdLogsKeepsItsLevelsAndFacts(t *testing.T) {
	log := &records{}
	z := server.Zap(log.logger(slog.LevelDebug)).With(zap.String("host", "a"))
	z.Debug("the finest")
	z.Info("an info", zap.Int("n", 1))
	z.Warn("a warning", zap.Duration("took", time.Second))
	z.Error("an error", zap.Error(context.Canceled))
	for _, want := range [][]string{
		{"level=DEBUG", `msg="an info"`, "from=etcd", "host=a", "n=1"},
		{"level=WARN", `msg="a warning"`, "took=1s"},
		{"level=ERROR", `msg="an error"`, `error="context canceled"`},
	} {
		if log.find(want...) == "" {
			t.Errorf("no line has %q:\n%s", want, strings.Join(log.lines, ""))
		}
	}
	if log.find("the finest") != "" {
		t.Error("debug of etcd is logged as debug")
	}
}
