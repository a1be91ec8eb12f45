// Areas on a map of their own: drawn, lit by pointing at them or at what belongs to them, and looked at closer.

/**
 * Draw GeoJSON `features` on Leaflet's `map`; `look` gives each its class, `act` is called when one is clicked.
 * Gives `{layer, light(match), fit(match)}`: `match` says of a feature whether it is meant.
 */
export function drawAreas(map, features, { look = () => "area-plain", act, point } = {}) {
  const layer = window.L.geoJSON(features, {
    style: (feature) => ({ className: look(feature) }),
    interactive: Boolean(act || point),
    onEachFeature: (feature, one) => {
      if (act) one.on("click", () => act(feature));
      if (point) one.on("mouseover", () => point(feature)).on("mouseout", () => point(null));
      if (feature.properties?.name) one.bindTooltip(document.createTextNode(feature.properties.name).textContent.replace(/[<&]/g, (sign) => (sign === "<" ? "&lt;" : "&amp;")), { sticky: true });
    },
  }).addTo(map);
  const all = () => layer.getLayers();
  return {
    layer,
    light: (match) => {
      for (const one of all()) one.getElement()?.classList.toggle("lit", Boolean(match?.(one.feature)));
    },
    fit: (match = () => true) => {
      const meant = window.L.featureGroup(all().filter((one) => match(one.feature)));
      if (meant.getLayers().length) map.fitBounds(meant.getBounds(), { padding: [24, 24], maxZoom: 16, animate: false });
    },
  };
}
