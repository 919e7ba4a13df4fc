package main

import (
	"context"
	"crypto/rand"
	"log"
	mathrand "math/rand"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	rxon "holon/rxon/v1"
)

var (
	instance          = rand.Text()                    // of this process; with it, the node recognizes a reconnect
	stream            rxon.WorkerService_SessionClient // the current session; nil before its Welcome
	welcome           = &rxon.Welcome{}                // of the last session
	losses            int
	draining, leaving bool
)

// open starts a session on its own connection, without a deadline. After its end, it starts the next one.
func open(tls credentials.TransportCredentials) {
	target := strings.TrimPrefix(os.Getenv("NODE_URL"), "grpcs://")
	channel, err := grpc.NewClient(target, grpc.WithTransportCredentials(tls))
	check(err)
	ctx, cancel := context.WithCancel(context.Background())
	hello := greeting()
	go func() {
		limit := 10 * time.Second
		silence := time.AfterFunc(limit, cancel)
		call, err := rxon.NewWorkerServiceClient(channel).Session(ctx)
		if err == nil {
			call.Send(&rxon.SessionRequest{Message: &rxon.SessionRequest_Hello{Hello: hello}})
		}
		for err == nil {
			var response *rxon.SessionResponse
			if response, err = call.Recv(); err == nil {
				if first := response.GetWelcome(); first != nil {
					limit = first.SilenceTimeout.AsDuration()
					do <- func() { welcomed(ctx, call, first) }
				} else {
					do <- func() { received(response) }
				}
				silence.Reset(limit)
			}
		}
		cancel()
		channel.Close()
		do <- func() { time.AfterFunc(lost(err), func() { do <- func() { open(tls) } }) }
	}()
}

func greeting() *rxon.Hello {
	hello := &rxon.Hello{InstanceId: instance, Credits: proto.Int32(4)}
	hello.Capabilities = []rxon.Capability{rxon.Capability_CAPABILITY_RESUME, rxon.Capability_CAPABILITY_CANCEL}
	catalog := &rxon.Catalog{Offerings: []*rxon.Offering{{Skill: "double"}, {Skill: "count"}}}
	hello.Offered = &rxon.Hello_Catalog{Catalog: catalog}
	if draining {
		hello.Credits = proto.Int32(0)
	}
	if welcome.SessionId != "" {
		hello.Resume = &rxon.Resume{SessionId: welcome.SessionId}
		for _, held := range leases {
			hello.Resume.Leases = append(hello.Resume.Leases, held.LeaseRef)
		}
	}
	return hello
}

func welcomed(ctx context.Context, call rxon.WorkerService_SessionClient, message *rxon.Welcome) {
	stream, welcome, losses, leaving = call, message, 0, draining
	go beat(ctx, message.HeartbeatInterval.AsDuration())
	kept := map[string]bool{}
	for _, one := range message.Leases {
		kept[one.LeaseId] = one.Decision == rxon.LeaseDecision_LEASE_DECISION_KEEP
	}
	for id, held := range leases {
		if held.result != nil {
			sendResult(held, true)
		} else if !kept[id] {
			delete(leases, id)
			held.stop()
		}
	}
	leaveIfDone()
}

// lost returns how long to wait before the next session.
func lost(err error) time.Duration {
	stream = nil
	leaveIfDone()
	log.Printf("the session ended: %v", err)
	switch status.Code(err) {
	case codes.InvalidArgument, codes.PermissionDenied, codes.Unimplemented, codes.Unauthenticated:
		return time.Duration((30 + 15*mathrand.Float64()) * float64(time.Second)) // an operator has to correct something
	}
	losses++
	return 500*time.Millisecond + time.Duration(mathrand.Int63n(int64(time.Second)<<min(losses, 5)))
}
