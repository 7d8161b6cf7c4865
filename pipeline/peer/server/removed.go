package server

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// statusMethod is what clients call to ask a server how it is.
const statusMethod = "/etcdserverpb.Maintenance/Status"

// outlive lets a server that was removed an instant ago refuse to say how it is. The handler
// of etcd looks for the server among the members then, and panics.
func outlive(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (response any, err error) {
	if info.FullMethod == statusMethod {
		defer func() {
			if r := recover(); r != nil {
				response, err = nil, status.Errorf(codes.Unavailable, "this server can't say how it is: %v", r)
			}
		}()
	}
	return handle(ctx, request)
}
