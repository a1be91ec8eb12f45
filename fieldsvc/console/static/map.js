// The map of the console. A page that wants one includes "_map.html" among its scripts and imports from here.
//
//   map-view.js   createMap: the map itself, fitting, picking a place, drawing areas
//   map-base.js   what lies under everything: tiles, or territories and streets where there are none
//   map-marks.js  jobs, clusters, crews, routes
//   map-looks.js  shapes and colours
//   map-tools.js  buttons, legend
//   map-edit.js   areas drawn and changed
//   map-drop.js   jobs dropped on crews
//   map-board.js  attachMap: the map of the board, linked with list and timeline by the store

export { createMap } from "./map-view.js";
export { attachMap } from "./map-board.js";
