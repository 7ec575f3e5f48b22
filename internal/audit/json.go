package audit

import "encoding/json"

// MarshalJSON writes the report for programs: nothing is left out because it is zero,
// and the time is in seconds.
func (r Report) MarshalJSON() ([]byte, error) {
	type repair struct {
		Users int            `json:"users"`
		Left  map[Kind]int64 `json:"left"`
	}
	report := struct {
		Clean       bool           `json:"clean"`
		Users       int            `json:"users"`
		Posts       int64          `json:"posts"`
		Differences map[Kind]int64 `json:"differences"`
		Examples    []Difference   `json:"examples"`
		Rechecked   int            `json:"rechecked"`
		Unsettled   int            `json:"unsettled"`
		Events      []EventCount   `json:"events"`
		Records     int64          `json:"records"`
		Repeats     int64          `json:"repeats"`
		Unknown     int64          `json:"unknown"`
		Bad         int64          `json:"bad"`
		Stored      int64          `json:"stored"`
		Lost        int64          `json:"lost"`
		// Null where there was none.
		Repair  *repair `json:"repair"`
		Elapsed float64 `json:"elapsed_seconds"`
	}{
		Clean: r.Clean(), Users: r.Users, Posts: r.Posts, Differences: ofAllKinds(r.Differences),
		Examples: append([]Difference{}, r.Examples...), Rechecked: r.Rechecked, Unsettled: r.Unsettled,
		Events:  append([]EventCount{}, r.Events...),
		Records: r.Records, Repeats: r.Repeats, Unknown: r.Unknown, Bad: r.Bad, Stored: r.Stored, Lost: r.Lost,
		Elapsed: r.Elapsed.Seconds(),
	}
	if r.Repair != nil {
		report.Repair = &repair{Users: r.Repair.Users, Left: ofAllKinds(r.Repair.Left)}
	}
	return json.Marshal(report)
}

func ofAllKinds(found map[Kind]int64) map[Kind]int64 {
	all := make(map[Kind]int64)
	for _, kind := range Kinds() {
		all[kind] = found[kind]
	}
	return all
}
