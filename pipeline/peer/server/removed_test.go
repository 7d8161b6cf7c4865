package server_test

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mgmtproject/mgmt/pipeline/peer/server"
)

const statusMethod = "/etcdserverpb.Maintenance/Status"

func TestAServerThatWasRemovedOutlivesTheQuestionHowItIs(t *testing.T) {
	ask := func(method string) (err error) {
		_, err = server.Outlive(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: method}, func(context.Context, any) (any, error) {
			panic("failed to find local ID in cluster members")
		})
		return err
	}
	if err := ask(statusMethod); status.Code(err) != codes.Unavailable {
		t.Errorf("the error is %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("another panic is hidden")
		}
	}()
	_ = ask("/etcdserverpb.KV/Range")
}
