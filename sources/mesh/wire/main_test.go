package wire_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(peerVariable) != "" {
		servePeer()
		return
	}
	goleak.VerifyTestMain(m)
}
