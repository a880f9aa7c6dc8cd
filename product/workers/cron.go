package workers

import (
	"strconv"
	"strings"
	"time"

	"selvage/foundation/fault"
)

// cron is a parsed cron trigger: five fields in UTC. Source: Cloudflare's "Cron Triggers" page, which
// follows Quartz: days of the week are 1 (Sunday) to 7, names work, and L, W and # say last, nearest
// weekday and the nth.
type cron struct {
	minute, hour, month uint64 // bit sets
	day                 dayField
	week                weekField
}

// dayField is the day of the month.
type dayField struct {
	any     bool
	days    uint64
	last    bool   // L
	lastW   bool   // LW: the last weekday of the month
	nearest uint64 // nW: the weekday nearest to day n
}

// weekField is the day of the week, Sunday as 1.
type weekField struct {
	any  bool
	days uint64
	last uint64    // nL: the last such day of the month
	nth  [8]uint64 // n#k: bit k of nth[n]
}

// span is what the numbers of a field may be.
type span struct {
	what        string // for messages
	least, most int
	names       []string // by number
}

var (
	minutes    = span{what: "minute", most: 59}
	hours      = span{what: "hour", most: 23}
	monthDay   = span{what: "day of the month", least: 1, most: 31}
	months     = span{what: "month", least: 1, most: 12, names: monthNames}
	weekDays   = span{what: "day of the week", least: 1, most: 7, names: dayNames}
	monthNames = []string{"", "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}
	dayNames   = []string{"", "SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}
)

// parseCron reads a trigger such as "*/5 * * * *" or "0 9 LW * *".
func parseCron(s string) (*cron, error) {
	fields := strings.Fields(s)
	if len(fields) != 5 {
		return nil, badCron(s, "has %d fields; it takes five: minute, hour, day of the month, month, day of the week", len(fields))
	}
	var c cron
	var err error
	if c.minute, err = minutes.parse(s, fields[0]); err != nil {
		return nil, err
	}
	if c.hour, err = hours.parse(s, fields[1]); err != nil {
		return nil, err
	}
	if err = c.day.parse(s, fields[2]); err != nil {
		return nil, err
	}
	if c.month, err = months.parse(s, fields[3]); err != nil {
		return nil, err
	}
	return &c, c.week.parse(s, fields[4])
}

func badCron(s, format string, args ...any) error {
	return fault.New(fault.Invalid, "The cron trigger %.60q "+format+".", append([]any{s}, args...)...).WithCode(10100).At("cron")
}

// parse reads lists of *, n, a-b, each with an optional /step. s is the whole trigger, for messages.
func (p *span) parse(s, field string) (uint64, error) {
	var set uint64
	for item := range strings.SplitSeq(field, ",") {
		part, step, stepped := strings.Cut(item, "/")
		every := 1
		if stepped {
			n, err := strconv.Atoi(step)
			if err != nil || n < 1 || n > p.most {
				return 0, badCron(s, "has a step %q in its %s; it has to be from 1 to %d", step, p.what, p.most)
			}
			every = n
		}
		from, to := p.least, p.most
		if part != "*" {
			low, high, ranged := strings.Cut(part, "-")
			var ok bool
			if from, ok = number(low, p.names); !ok || from < p.least || from > p.most {
				return 0, badCron(s, "has %q in its %s; it has to be from %d to %d", low, p.what, p.least, p.most)
			}
			switch {
			case ranged:
				if to, ok = number(high, p.names); !ok || to < from || to > p.most {
					return 0, badCron(s, "has a range to %q in its %s; it has to be from %d to %d", high, p.what, from, p.most)
				}
			case !stepped:
				to = from
			}
		}
		for v := from; v <= to; v += every {
			set |= 1 << v
		}
	}
	return set, nil
}

func number(s string, names []string) (int, bool) {
	for i, n := range names {
		if n != "" && strings.EqualFold(s, n) {
			return i, true
		}
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 0 && len(s) < 4
}

func (d *dayField) parse(s, field string) error {
	if d.any = field == "*" || field == "?"; d.any {
		return nil
	}
	var plain []string
	for part := range strings.SplitSeq(strings.ToUpper(field), ",") {
		day, weekday := strings.CutSuffix(part, "W")
		switch {
		case part == "L":
			d.last = true
		case part == "LW":
			d.lastW = true
		case weekday:
			n, ok := number(day, nil)
			if !ok || n < 1 || n > 31 {
				return badCron(s, "has %q in its day of the month; before W stands a day from 1 to 31", part)
			}
			d.nearest |= 1 << n
		default:
			plain = append(plain, part)
		}
	}
	if plain == nil {
		return nil
	}
	var err error
	d.days, err = monthDay.parse(s, strings.Join(plain, ","))
	return err
}

func (w *weekField) parse(s, field string) error {
	if w.any = field == "*" || field == "?"; w.any {
		return nil
	}
	var plain []string
	for part := range strings.SplitSeq(strings.ToUpper(field), ",") {
		day, nth, numbered := strings.Cut(part, "#")
		if numbered {
			n, ok := number(day, dayNames)
			k, err := strconv.Atoi(nth)
			if !ok || n < 1 || n > 7 || err != nil || k < 1 || k > 5 {
				return badCron(s, "has %q in its day of the week; write it as 2#1, the first Monday", part)
			}
			w.nth[n] |= 1 << k
			continue
		}
		if day, last := strings.CutSuffix(part, "L"); last && part != "L" {
			n, ok := number(day, dayNames)
			if !ok || n < 1 || n > 7 {
				return badCron(s, "has %q in its day of the week; before L stands a day from 1 to 7", part)
			}
			w.last |= 1 << n
			continue
		}
		if part == "L" {
			part = "7"
		}
		plain = append(plain, part)
	}
	if plain == nil {
		return nil
	}
	var err error
	w.days, err = weekDays.parse(s, strings.Join(plain, ","))
	return err
}

// at tells whether the trigger fires in the minute of t.
func (c *cron) at(t time.Time) bool {
	t = t.UTC()
	if c.minute>>t.Minute()&1 == 0 || c.hour>>t.Hour()&1 == 0 || c.month>>int(t.Month())&1 == 0 {
		return false
	}
	// As in every cron: where both days are restricted, either will do.
	switch {
	case c.day.any:
		return c.week.any || c.week.at(t)
	case c.week.any:
		return c.day.at(t)
	}
	return c.day.at(t) || c.week.at(t)
}

func (d *dayField) at(t time.Time) bool {
	day, end := t.Day(), monthDays(t)
	if d.days>>day&1 == 1 || d.last && day == end {
		return true
	}
	if d.lastW && day == nearestWeekday(t, end) {
		return true
	}
	for n := 1; n <= 31; n++ {
		if d.nearest>>n&1 == 1 && n <= end && day == nearestWeekday(t, n) {
			return true
		}
	}
	return false
}

func (w *weekField) at(t time.Time) bool {
	n := int(t.Weekday()) + 1
	if w.days>>n&1 == 1 || w.last>>n&1 == 1 && t.Day()+7 > monthDays(t) {
		return true
	}
	return w.nth[n]>>((t.Day()-1)/7+1)&1 == 1
}

func monthDays(t time.Time) int {
	return time.Date(t.Year(), t.Month()+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

// nearestWeekday returns the day of t's month, Monday to Friday, that is nearest to day, without
// leaving the month.
func nearestWeekday(t time.Time, day int) int {
	switch time.Date(t.Year(), t.Month(), day, 0, 0, 0, 0, time.UTC).Weekday() {
	case time.Saturday:
		if day == 1 {
			return day + 2
		}
		return day - 1
	case time.Sunday:
		if day == monthDays(t) {
			return day - 2
		}
		return day + 1
	}
	return day
}
