package survival_test

import (
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"
)

// rounds is how often something is repeated: seldom in a usual test, and as often as it
// takes in a soak.
func rounds(t *testing.T, usual, soak int) int {
	t.Helper()
	if os.Getenv("MGMT_SOAK") != "" {
		return soak
	}
	if testing.Short() {
		t.Skip("takes a while")
	}
	return usual
}

func median(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}

// TestAnyHostMayBeKilledAtAnyTime kills hosts of a mesh of five, three of which serve.
func TestAnyHostMayBeKilledAtAnyTime(t *testing.T) {
	n := rounds(t, 6, 100)
	f := newField(t, 5, 3)
	f.up()
	f.settled(3)
	c := f.check()
	var took []time.Duration
	for i := range n {
		dead := f.machines[rand.IntN(len(f.machines))]
		left := slices.DeleteFunc(slices.Clone(f.machines), func(m *machine) bool { return m == dead })
		time.Sleep(rand.N(300 * time.Millisecond))
		dead.kill()
		began := time.Now()
		left[rand.IntN(len(left))].export()
		f.exchanged(left...)
		took = append(took, time.Since(began))
		dead.start(left[rand.IntN(len(left))])
		if i%2 == 0 { // otherwise the next one is killed while this one comes back
			f.exchanged(f.machines...)
		}
	}
	f.exchanged(f.machines...)
	c.end()
	worst := slices.Max(took)
	t.Logf("%d kills: the others exchange again after %v (median), %v (worst)", n, median(took), worst)
	if m := median(took); m > 5*time.Second {
		t.Errorf("they take %v to exchange again", m)
	}
}
