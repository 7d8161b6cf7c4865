package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// syncMetric is where etcd counts how long its log takes to be written for good. All the
// servers of a process count there together.
const syncMetric = "etcd_disk_wal_fsync_duration_seconds"

// enough is how many writes it takes to say something about the slowest of 100.
const enough = 100

// syncs is a histogram of how long writes took: how many took no longer than each of some
// durations, which are ascending.
type syncs []bucket

type bucket struct {
	limit time.Duration
	count uint64
}

// readSyncs returns what etcd has counted up to now.
func readSyncs() syncs {
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		return nil // one of the others can't be read: nothing to say about this one
	}
	for _, f := range families {
		if f.GetName() == syncMetric && len(f.Metric) == 1 {
			return toSyncs(f.Metric[0].Histogram)
		}
	}
	return nil
}

func toSyncs(h *dto.Histogram) syncs {
	s := make(syncs, 0, len(h.Bucket)+1)
	for _, b := range h.Bucket {
		s = append(s, bucket{time.Duration(b.GetUpperBound() * float64(time.Second)), b.GetCumulativeCount()})
	}
	if len(s) > 0 {
		s = append(s, bucket{2 * s[len(s)-1].limit, h.GetSampleCount()}) // longer than all limits
	}
	return s
}

// since is what was added to an earlier histogram.
func (s syncs) since(before syncs) syncs {
	if len(before) != len(s) {
		return s
	}
	added := make(syncs, len(s))
	for i := range s {
		added[i] = bucket{s[i].limit, s[i].count - before[i].count}
	}
	return added
}

// total is how many writes there were.
func (s syncs) total() uint64 {
	if len(s) == 0 {
		return 0
	}
	return s[len(s)-1].count
}

// p99 is what 99 of 100 writes took at most: between two limits it is taken to grow evenly.
func (s syncs) p99() time.Duration {
	want := float64(s.total()) * 0.99
	low := bucket{}
	for _, b := range s {
		if float64(b.count) >= want && b.count > low.count {
			share := (want - float64(low.count)) / float64(b.count-low.count)
			return low.limit + time.Duration(share*float64(b.limit-low.limit))
		}
		low = b
	}
	return low.limit
}

// slowness is how slow a disk was when that was said last.
type slowness struct {
	p99   time.Duration
	since time.Time
}

// checkSyncs warns of a disk that is too slow: the whole mesh waits for those of most
// servers.
func (k *keeper) checkSyncs() {
	now := readSyncs()
	recent := now.since(k.syncs)
	if recent.total() < enough {
		return // a few more, until next time
	}
	k.syncs = now
	p99 := recent.p99()
	switch {
	case p99 <= k.options.Upkeep.SlowSync:
		k.slow = slowness{}
	case p99 > 2*k.slow.p99 || time.Since(k.slow.since) > 10*k.options.Upkeep.Every:
		k.slow = slowness{p99, time.Now()}
		k.options.Log.Warn("the disk of the server is slow, which all hosts of the mesh wait for",
			"fsync_p99", p99.Round(10*time.Microsecond), "limit", k.options.Upkeep.SlowSync,
			"writes", recent.total(), "path", k.options.Dir)
	}
}
