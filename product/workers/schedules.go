package workers

import (
	"context"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// maxSchedules is the most cron triggers of one script.
const maxSchedules = 50

func (w *Workers) scheduleRoutes() []product.Route {
	const path = "/accounts/{account_id}/workers/scripts/{script_name}/schedules"
	return []product.Route{
		{Method: "GET", Path: path, Permission: readScripts, Summary: "List the cron triggers of a Worker.", Handle: w.listSchedules},
		{Method: "PUT", Path: path, Permission: writeScripts, Summary: "Replace the cron triggers of a Worker.", Handle: w.replaceSchedules},
	}
}

func schedulesReply(list []spec.WorkerSchedule) map[string]any {
	if list == nil {
		list = []spec.WorkerSchedule{}
	}
	return map[string]any{"schedules": list}
}

func (w *Workers) listSchedules(_ context.Context, c *product.Call) (product.Reply, error) {
	s, err := w.ready(c)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: schedulesReply(s.worker.Schedules)}, nil
}

func (w *Workers) replaceSchedules(ctx context.Context, c *product.Call) (product.Reply, error) {
	var in []struct {
		Cron string `json:"cron"`
	}
	if err := c.Decode(&in, "[].created_on", "[].modified_on"); err != nil {
		return product.Reply{}, err
	}
	if len(in) > maxSchedules {
		return product.Reply{}, fault.New(fault.TooMuch, "There are %d cron triggers, the limit of a Worker is %d.", len(in), maxSchedules).WithCode(10072).At("cron")
	}
	for _, s := range in {
		if _, err := parseCron(s.Cron); err != nil {
			return product.Reply{}, err
		}
	}
	return w.alter(ctx, c, func(_ product.Tx, worker *spec.Worker) (any, error) {
		old := map[string]spec.WorkerSchedule{}
		for _, s := range worker.Schedules {
			old[s.Cron] = s
		}
		var list []spec.WorkerSchedule
		seen := map[string]bool{}
		for _, s := range in {
			if seen[s.Cron] {
				continue
			}
			seen[s.Cron] = true
			kept, known := old[s.Cron]
			if !known {
				kept = spec.WorkerSchedule{Cron: s.Cron, CreatedOn: worker.ModifiedOn, ModifiedOn: worker.ModifiedOn}
			}
			list = append(list, kept)
		}
		worker.Schedules = list
		return schedulesReply(list), nil
	})
}
