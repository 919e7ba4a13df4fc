// A worker of a Holon node in Go, from the protos alone. It serves its skills until SIGTERM, then drains.
//
//	NODE_URL=grpcs://localhost:7700 TLS_CA_PATH=ca.pem TLS_CERT_PATH=go-1.pem TLS_KEY_PATH=go-1.key ./worker
//
// tasks.go is what it does, session.go how it keeps in touch with its node.
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

// do is what happens, one after the other. Whatever is not a function's own belongs to main, which does it.
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
		signal.Reset() // a second one ends it at once
		do <- drain
	}()
	open(credentials.NewTLS(&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}))
	for happened := range do {
		happened()
	}
}

// heard is what the node says once there is a session; a kind that is not here is ignored.
func heard(said *rxon.SessionResponse) {
	switch said := said.Message.(type) {
	case *rxon.SessionResponse_TaskOffers:
		for _, offer := range said.TaskOffers.Offers {
			offered(offer)
		}
	case *rxon.SessionResponse_StopTasks:
		for _, one := range said.StopTasks.Stops {
			if held := leases[one.LeaseId]; held != nil {
				held.stop() // its word follows
			}
		}
	case *rxon.SessionResponse_UpdateAcks:
		for _, ack := range said.UpdateAcks.Results {
			settled(ack)
		}
	case *rxon.SessionResponse_GoAway:
		if said.GoAway.Reason == "REPLACED" {
			log.Fatal("a newer process has our id")
		}
		leaving = true
		leaveIfDone() // no more offers come: end what is held, and then this session
	case *rxon.SessionResponse_SessionError:
		log.Printf("message %d was refused: %s", said.SessionError.Frame, said.SessionError.Error.GetMessage())
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
		stream.Send(request) // what goes wrong with it, Recv says too
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
