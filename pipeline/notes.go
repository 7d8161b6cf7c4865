package pipeline

import "fmt"

// metaNotes remarks on meta-parameters that are in order and yet not what they seem to be.
func (g *Graph) metaNotes() {
	type first struct {
		v     *Vertex
		count int
	}
	semas := map[string]first{}
	exporting := 0
	var exports *Vertex
	for _, v := range g.Vertices {
		if v.Meta == &defaultMeta {
			continue
		}
		if len(v.Meta.Export) > 0 {
			if exporting++; exports == nil {
				exports = v
			}
		}
		for _, text := range v.Meta.Sema {
			id, count, _ := parseSema(text) // Validate has seen it
			switch before, ok := semas[id]; {
			case !ok:
				semas[id] = first{v, count}
			case before.count != count:
				g.Notes = append(g.Notes, Note{v.Pos, fmt.Sprintf(
					"%s counts the semaphore %s to %d, and %s to %d: the larger number counts", brief(v.String()), id, count, brief(before.v.String()), before.count)})
			}
		}
	}
	if exports != nil {
		more := ""
		switch exporting {
		case 1:
		case 2:
			more = " and one other"
		default:
			more = fmt.Sprintf(" and %d others", exporting-1)
		}
		g.Notes = append(g.Notes, Note{exports.Pos, "meta.export of " + brief(exports.String()) + more + " has no effect yet: there is no mesh of hosts"})
	}
}
