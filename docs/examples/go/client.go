// A client of a Holon node in Go, written from the protos alone. It creates a job and follows it to its end. Ctrl-C
// cancels the job. A second Ctrl-C ends only the client.
//
//	HOLON_URL=grpcs://localhost:7701 HOLON_CA=ca.pem HOLON_TOKEN=... ./client BLUEPRINT '{"n": 1}'
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log"
	mathrand "math/rand"
	"os"
	"os/signal"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	rxon "holon/rxon/v1"
)

// Every call carries the token; TLS encrypts the channel.
var authorized = metadata.AppendToOutgoingContext(
	context.Background(), "authorization", "Bearer "+os.Getenv("HOLON_TOKEN"))

// transient waits and returns true if a retry may help. The wait is random; its upper bound doubles up to about 6 s.
func transient(what string, err error, losses int) bool {
	code := status.Code(err) // io.EOF: the stream ended with OK before the end of the job
	if err != io.EOF && code != codes.Unavailable && code != codes.DeadlineExceeded && code != codes.ResourceExhausted {
		return false
	}
	log.Printf("%s: %v; trying again", what, err)
	time.Sleep(time.Duration(mathrand.Int63n(int64(200*time.Millisecond) << min(losses, 5))))
	return true
}

// repeated makes a unary call that is safe to repeat, until the node answers.
func repeated[Q, A any](
	what string, call func(context.Context, *Q, ...grpc.CallOption) (*A, error), request *Q,
) (*A, error) {
	for losses := 0; ; losses++ {
		ctx, cancel := context.WithTimeout(authorized, 10*time.Second) // for the call, not for the job
		answer, err := call(ctx, request)
		cancel()
		if err == nil || !transient(what, err, losses) {
			return answer, err
		}
	}
}

// watch prints the events of a job from the first one, and returns the job after its end.
func watch(jobs rxon.JobServiceClient, id string) (*rxon.Job, error) {
	request := &rxon.WatchJobRequest{JobId: id, AfterSequence: proto.Int64(0)}
	for losses := 0; ; losses++ {
		stream, err := jobs.WatchJob(authorized, request)
		var message *rxon.WatchJobResponse
		for err == nil {
			if message, err = stream.Recv(); err != nil {
				break
			}
			losses, request.AfterSequence = 0, proto.Int64(max(message.Sequence, *request.AfterSequence))
			switch update := message.Update.(type) { // nil if this program does not know the kind
			case *rxon.WatchJobResponse_Job:
				if update.Job.Terminal {
					return update.Job, nil
				}
			case *rxon.WatchJobResponse_Progress:
				fmt.Printf("%s %.0f%%\n", update.Progress.Status, update.Progress.GetPercent())
			case *rxon.WatchJobResponse_Event:
				fmt.Println(update.Event.EventType, update.Event.State)
			}
		}
		if !transient("watch", err, losses) {
			return nil, err
		}
	}
}

func main() {
	tls, err := credentials.NewClientTLSFromFile(os.Getenv("HOLON_CA"), "")
	check(err)
	target := strings.TrimPrefix(os.Getenv("HOLON_URL"), "grpcs://")
	channel, err := grpc.NewClient(target, grpc.WithTransportCredentials(tls))
	check(err)
	jobs := rxon.NewJobServiceClient(channel)

	data := &rxon.Payload{Content: &rxon.Payload_Data{Data: []byte(os.Args[2])}}
	request := &rxon.CreateJobRequest{RequestId: rand.Text(), BlueprintName: os.Args[1], InitialData: data}
	created, err := repeated("create", jobs.CreateJob, request) // a retry with this RequestId returns the same job
	check(err)
	fmt.Println("job", created.JobId)
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	go func() {
		<-interrupts
		signal.Stop(interrupts)
		if _, err := repeated("cancel", jobs.CancelJob, &rxon.CancelJobRequest{JobId: created.JobId}); err != nil {
			log.Print(err)
		}
	}()
	job, err := watch(jobs, created.JobId)
	check(err)
	fmt.Println(job.Status, string(job.GetResult().GetData())+job.GetError().GetMessage())
	if job.Status != "finished" {
		os.Exit(1)
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
