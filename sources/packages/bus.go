package packages

import (
	"context"
	"errors"
	"time"

	"github.com/godbus/dbus/v5"
)

// The bus may come later, or go and come again.
const (
	firstPause = time.Second
	mostPause  = time.Minute
)

// packageKit is where PackageKit is found on the system bus, and what its signals are of.
const packageKit = "org.freedesktop.PackageKit"

// listen takes the signals of PackageKit until ctx is done. Listening does not start
// PackageKit. After a time without a connection all may have changed.
func (s *Source) listen(ctx context.Context) {
	pause, told := firstPause, false
	for ctx.Err() == nil {
		began := time.Now()
		err := s.hear(ctx, func() {
			if told { // there was a gap
				s.lost("reconnect")
			}
		})
		if ctx.Err() != nil {
			return
		}
		if !told {
			told = true
			s.opts.Log.Warn("can't hear of packages from PackageKit", "err", err)
		}
		if time.Since(began) > mostPause {
			pause = firstPause
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, mostPause)
	}
}

// hear connects, and returns when the connection is lost.
func (s *Source) hear(ctx context.Context, connected func()) error {
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx), dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	signals := make(chan *dbus.Signal, 16)
	conn.Signal(signals)
	if err := conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(packageKit), dbus.WithMatchInterface(packageKit)); err != nil {
		return err
	}
	connected()
	for signal := range signals {
		switch signal.Name {
		case packageKit + ".UpdatesChanged", packageKit + ".InstalledChanged", packageKit + ".RepoListChanged":
			s.lost("signal")
		}
	}
	return errors.New("the connection to the system bus was lost")
}

// lost marks everything as suspect.
func (s *Source) lost(what string) {
	s.mu.Lock()
	s.pending.lost = what
	s.mu.Unlock()
	s.signal()
}
