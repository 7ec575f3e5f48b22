// Package longrun holds what every long run against a live server needs: to
// wait out the server's absences ([Patience]) and to say how far it is ([Bar]).
package longrun
