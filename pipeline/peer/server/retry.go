package server

import (
	"context"
	"strings"
	"time"

	"go.etcd.io/raft/v3"
	"google.golang.org/grpc"
)

// again is how long a server waits until it tries once more what was dropped, and atMost
// for how long it does.
const (
	again  = 5 * time.Millisecond
	atMost = 2 * time.Second
)

// retry has a leader that is about to hand the lead over do what it was asked for as soon
// as the next leads. It drops everything in between, so that nothing can happen twice, and
// clients take that for an error of what they have asked for.
func retry(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	for end := time.Now().Add(atMost); ; {
		response, err := handle(ctx, request)
		if err == nil || !strings.Contains(err.Error(), raft.ErrProposalDropped.Error()) || time.Now().After(end) {
			return response, err
		}
		select {
		case <-ctx.Done():
			return response, err
		case <-time.After(again):
		}
	}
}
