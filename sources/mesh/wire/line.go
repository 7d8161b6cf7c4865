package wire

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	// maxLogs is how many lines of a log wait for a reader before the next are dropped.
	maxLogs = 1000

	// flushLimit is how long an end waits for the other to read its last words.
	flushLimit = time.Second
)

var (
	errClosed = errors.New("the connection was closed")
	errGone   = errors.New("the other process has ended")
)

// line is a connection with what both ends do alike. What is sent never waits for the
// reader at the other end, which may be stopped: it queues.
type line struct {
	conn io.ReadWriteCloser
	wg   sync.WaitGroup
	done chan struct{} // closed when the connection has ended
	once sync.Once
	err  error // once done is closed: why

	mu      sync.Mutex
	queue   []func() *frame // each called when its turn has come; nil stands for nothing
	logs    int             // lines of a log in queue
	dropped int
	flushed []chan struct{} // closed when queue has been written
	wake    chan struct{}
}

func newLine(conn io.ReadWriteCloser) *line {
	return &line{conn: conn, done: make(chan struct{}), wake: make(chan struct{}, 1)}
}

// begin reads and writes until the connection ends, which handle brings about by an error.
func (l *line) begin(handle func(*frame) error) {
	l.wg.Go(func() { l.end(l.write()) })
	l.wg.Go(func() { l.end(l.read(handle)) })
}

func (l *line) read(handle func(*frame) error) error {
	in := json.NewDecoder(l.conn)
	for {
		var f frame
		if err := in.Decode(&f); err != nil {
			return lost(err)
		}
		if err := handle(&f); err != nil {
			return err
		}
	}
}

// lost tells an end of the connection from something that nobody could read.
func lost(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errGone
	}
	_, syntax := errors.AsType[*json.SyntaxError](err)
	_, kind := errors.AsType[*json.UnmarshalTypeError](err)
	_, value := errors.AsType[base64.CorruptInputError](err)
	if syntax || kind || value {
		return fmt.Errorf("what came over the connection is not understood: %w", err)
	}
	return fmt.Errorf("%w: %w", errGone, err)
}

// end closes the connection, for the first reason that is given.
func (l *line) end(err error) {
	l.once.Do(func() {
		l.err = err
		close(l.done)
		_ = l.conn.Close() // it is of no use any more, whatever it says
	})
}

// close is end once all that was sent is written, unless the other end does not read.
func (l *line) close() {
	flushed := make(chan struct{})
	l.mu.Lock()
	l.flushed = append(l.flushed, flushed)
	l.mu.Unlock()
	l.signal()
	limit := time.NewTimer(flushLimit)
	defer limit.Stop()
	select {
	case <-flushed:
	case <-l.done:
	case <-limit.C:
	}
	l.end(errClosed)
}

// send has f written soon.
func (l *line) send(f frame) { l.later(func() *frame { return &f }) }

// later has what f returns then written soon.
func (l *line) later(f func() *frame) {
	l.mu.Lock()
	l.queue = append(l.queue, f)
	l.mu.Unlock()
	l.signal()
}

// log is send for what may be dropped.
func (l *line) log(r *record) {
	l.mu.Lock()
	defer l.signal()
	defer l.mu.Unlock()
	if l.logs == maxLogs {
		l.dropped++
		return
	}
	l.logs++
	l.queue = append(l.queue, func() *frame {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.logs--
		r.Dropped, l.dropped = l.dropped, 0
		return &frame{Op: opLog, Log: r}
	})
}

func (l *line) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// write writes what is sent until the connection ends.
func (l *line) write() error {
	out := bufio.NewWriterSize(l.conn, 64<<10)
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	for {
		l.mu.Lock()
		queue, flushed := l.queue, l.flushed
		l.queue, l.flushed = nil, nil
		l.mu.Unlock()
		for _, next := range queue {
			f := next()
			if f == nil {
				continue
			}
			if err := encoder.Encode(f); err != nil {
				return err
			}
		}
		if err := out.Flush(); err != nil {
			return err
		}
		for _, ch := range flushed {
			close(ch)
		}
		select {
		case <-l.wake:
		case <-l.done:
			return nil
		}
	}
}
