package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"time"

	rxon "holon/rxon/v1"
)

type values map[string]float64
type skill func(ctx context.Context, in values, progress func(percent float64)) (values, error)

// Each takes its params, says how far it is, and ends when its context does.
var skills = map[string]skill{
	"double": func(_ context.Context, in values, _ func(float64)) (values, error) {
		return values{"doubled": 2 * in["n"]}, nil
	},
	"count": func(ctx context.Context, in values, progress func(float64)) (values, error) {
		for i := 1.0; i <= in["to"]; i++ {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(time.Duration(in["seconds"] * float64(time.Second))):
				progress(100 * i / in["to"])
			}
		}
		return values{"counted": in["to"]}, nil
	},
}

type lease struct {
	*rxon.LeaseRef
	stop   context.CancelFunc
	result *rxon.TaskResult // what it ended with, told again in each session until it is acknowledged
}

// leases are of what runs, or has ended and is not acknowledged. They outlive the session.
var leases = map[string]*lease{}

// tell says news of a lease. Without a session they are lost; a result is told again in the next one.
func tell(held *lease, news *rxon.TaskUpdate) {
	if leases[held.LeaseId] == held {
		news.TaskId, news.LeaseId = held.TaskId, held.LeaseId
		all := &rxon.TaskUpdates{Updates: []*rxon.TaskUpdate{news}}
		send(&rxon.SessionRequest{Message: &rxon.SessionRequest_TaskUpdates{TaskUpdates: all}})
	}
}

func tellResult(held *lease, resent bool) {
	tell(held, &rxon.TaskUpdate{Resent: resent, Update: &rxon.TaskUpdate_Result{Result: held.result}})
}

func offered(offer *rxon.TaskOffer) {
	ctx, stop := context.WithCancel(context.Background())
	held := &lease{LeaseRef: &rxon.LeaseRef{TaskId: offer.TaskId, LeaseId: offer.LeaseId}, stop: stop}
	leases[offer.LeaseId] = held
	work, known := skills[offer.Skill]
	if known && !draining {
		tell(held, &rxon.TaskUpdate{Update: &rxon.TaskUpdate_Accepted{Accepted: &rxon.TaskAccepted{}}})
		go run(ctx, held, work, offer.Params.GetData())
		return
	}
	no := &rxon.TaskRejected{Reason: "UNKNOWN_SKILL"}
	if draining { // the offer crossed our Drain; it may come back, at once, to who takes our place
		no = &rxon.TaskRejected{Reason: "DRAINING", RetryAtOnce: true}
	}
	tell(held, &rxon.TaskUpdate{Update: &rxon.TaskUpdate_Rejected{Rejected: no}})
	delete(leases, offer.LeaseId)
}

func settled(ack *rxon.ResultAck) {
	held := leases[ack.LeaseId]
	if held != nil && ack.Verdict == rxon.Verdict_VERDICT_RETRY {
		time.AfterFunc(ack.Error.GetRetryAfter().AsDuration(), func() { do <- func() { tellResult(held, true) } })
		return
	}
	if ack.Verdict != rxon.Verdict_VERDICT_COMMITTED {
		log.Printf("result not taken: %s %s %s", ack.Verdict, ack.Reason, ack.Error.GetMessage())
	}
	delete(leases, ack.LeaseId)
	leaveIfDone()
}

func run(ctx context.Context, held *lease, work skill, params []byte) {
	var in, out values
	err := json.Unmarshal(params, &in)
	if err == nil {
		out, err = work(ctx, in, func(percent float64) {
			news := &rxon.TaskUpdate_Progress{Progress: &rxon.TaskProgress{Percent: &percent}}
			do <- func() { tell(held, &rxon.TaskUpdate{Update: news}) }
		})
	}
	data, _ := json.Marshal(out)
	do <- func() {
		switch {
		case ctx.Err() != nil:
			held.result = &rxon.TaskResult{Status: "cancelled"}
		case err == nil && len(data) > int(welcome.MaxPayloadBytes):
			held.result = failed("LIMIT_EXCEEDED", errors.New("the result is too large"))
		case err != nil: // without a code it is tried again
			held.result = failed("", err)
		default:
			payload := &rxon.Payload{Content: &rxon.Payload_Data{Data: data}}
			held.result = &rxon.TaskResult{Status: "success", Data: payload}
		}
		tellResult(held, false)
	}
}

func failed(code string, err error) *rxon.TaskResult {
	return &rxon.TaskResult{Status: "failure", Error: &rxon.TaskError{Code: code, Message: err.Error()}}
}
