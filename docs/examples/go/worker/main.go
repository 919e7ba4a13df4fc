// A worker of a Holon node in Go, written from the protos alone. It serves its skills until SIGTERM, then drains.
//
//	NODE_URL=grpcs://localhost:7700 TLS_CA_PATH=ca.pem TLS_CERT_PATH=go-1.pem TLS_KEY_PATH=go-1.key ./worker
//
// tasks.go runs the tasks; session.go keeps the session with the node.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log"
	mathrand "math/rand"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc/credentials"
	rxon "holon/rxon/v1"
)

// do receives functions. main calls them one after the other, so only main touches shared variables.
var do = make(chan func())

func main() {
	authority, err := os.ReadFile(os.Getenv("TLS_CA_PATH"))
	check(err)
	pair, err := tls.LoadX509KeyPair(os.Getenv("TLS_CERT_PATH"), os.Getenv("TLS_KEY_PATH"))
	check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	go func() {
		<-signals
		signal.Reset() // a second SIGTERM ends the process at once
		do <- drain
	}()
	open(credentials.NewTLS(&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}))
	for happened := range do {
		happened()
	}
}

// received handles a message of the node after Welcome. Unknown kinds are ignored.
func received(response *rxon.SessionResponse) {
	switch message := response.Message.(type) {
	case *rxon.SessionResponse_TaskOffers:
		for _, offer := range message.TaskOffers.Offers {
			offered(offer)
		}
	case *rxon.SessionResponse_StopTasks:
		for _, one := range message.StopTasks.Stops {
			if held := leases[one.LeaseId]; held != nil {
				held.stop() // its result follows
			}
		}
	case *rxon.SessionResponse_UpdateAcks:
		for _, ack := range message.UpdateAcks.Results {
			acknowledged(ack)
		}
	case *rxon.SessionResponse_GoAway:
		if message.GoAway.Reason == "REPLACED" {
			log.Fatal("a newer process has our id")
		}
		leaving = true
		leaveIfDone() // no more offers come: finish all tasks, then end this session
	case *rxon.SessionResponse_SessionError:
		log.Printf("message %d was refused: %s", message.SessionError.Frame, message.SessionError.Error.GetMessage())
	}
}

func drain() {
	draining, leaving = true, true
	send(&rxon.SessionRequest{Message: &rxon.SessionRequest_Drain{Drain: &rxon.Drain{Reason: "SIGTERM"}}})
	leaveIfDone()
}

func leaveIfDone() {
	if !leaving || len(leases) > 0 {
		return
	}
	if stream == nil && draining {
		os.Exit(0)
	}
	if stream != nil {
		stream.CloseSend()
		stream = nil
	}
}

func beat(ctx context.Context, interval time.Duration) {
	for sequence := int64(1); ; sequence++ {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(float64(interval) * (0.9 + 0.2*mathrand.Float64()))):
			beat := &rxon.SessionRequest_Heartbeat{Heartbeat: &rxon.Heartbeat{Sequence: sequence}}
			do <- func() {
				if ctx.Err() == nil {
					send(&rxon.SessionRequest{Message: beat})
				}
			}
		}
	}
}

func send(request *rxon.SessionRequest) {
	if stream != nil {
		stream.Send(request) // Recv returns the error, if there is one
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
