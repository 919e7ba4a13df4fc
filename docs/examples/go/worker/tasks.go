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

// Each skill takes params, reports progress, and ends when its context is done.
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
	result *rxon.TaskResult // nil while the task runs; sent in each session until acknowledged
}

// leases holds running tasks and unacknowledged results, across sessions.
var leases = map[string]*lease{}

// update sends news of a lease. Without a session they are dropped; the next session resends results.
func update(held *lease, news *rxon.TaskUpdate) {
	if leases[held.LeaseId] == held {
		news.TaskId, news.LeaseId = held.TaskId, held.LeaseId
		all := &rxon.TaskUpdates{Updates: []*rxon.TaskUpdate{news}}
		send(&rxon.SessionRequest{Message: &rxon.SessionRequest_TaskUpdates{TaskUpdates: all}})
	}
}

func sendResult(held *lease, resent bool) {
	update(held, &rxon.TaskUpdate{Resent: resent, Update: &rxon.TaskUpdate_Result{Result: held.result}})
}

func offered(offer *rxon.TaskOffer) {
	ctx, stop := context.WithCancel(context.Background())
	held := &lease{LeaseRef: &rxon.LeaseRef{TaskId: offer.TaskId, LeaseId: offer.LeaseId}, stop: stop}
	leases[offer.LeaseId] = held
	work, known := skills[offer.Skill]
	if known && !draining {
		update(held, &rxon.TaskUpdate{Update: &rxon.TaskUpdate_Accepted{Accepted: &rxon.TaskAccepted{}}})
		go run(ctx, held, work, offer.Params.GetData())
		return
	}
	no := &rxon.TaskRejected{Reason: "UNKNOWN_SKILL"}
	if draining { // the offer crossed our Drain; another worker may get it at once
		no = &rxon.TaskRejected{Reason: "DRAINING", RetryAtOnce: true}
	}
	update(held, &rxon.TaskUpdate{Update: &rxon.TaskUpdate_Rejected{Rejected: no}})
	delete(leases, offer.LeaseId)
}

func acknowledged(ack *rxon.ResultAck) {
	held := leases[ack.LeaseId]
	if held != nil && ack.Verdict == rxon.Verdict_VERDICT_RETRY {
		time.AfterFunc(ack.Error.GetRetryAfter().AsDuration(), func() { do <- func() { sendResult(held, true) } })
		return
	}
	if ack.Verdict != rxon.Verdict_VERDICT_COMMITTED {
		log.Printf("result not applied: %s %s %s", ack.Verdict, ack.Reason, ack.Error.GetMessage())
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
			do <- func() { update(held, &rxon.TaskUpdate{Update: news}) }
		})
	}
	data, _ := json.Marshal(out)
	do <- func() {
		switch {
		case ctx.Err() != nil:
			held.result = &rxon.TaskResult{Status: "cancelled"}
		case err == nil && len(data) > int(welcome.MaxPayloadBytes):
			held.result = failed("LIMIT_EXCEEDED", errors.New("the result is too large"))
		case err != nil: // the node retries a failure without a code
			held.result = failed("", err)
		default:
			payload := &rxon.Payload{Content: &rxon.Payload_Data{Data: data}}
			held.result = &rxon.TaskResult{Status: "success", Data: payload}
		}
		sendResult(held, false)
	}
}

func failed(code string, err error) *rxon.TaskResult {
	return &rxon.TaskResult{Status: "failure", Error: &rxon.TaskError{Code: code, Message: err.Error()}}
}
